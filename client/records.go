package client

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"

	"github.com/selvage-edge/selvage/zone"
)

// MaxZoneFile is the size in bytes of the largest zone file that Import sends.
const MaxZoneFile = 16 << 20

// NewRecord is a DNS record to create.
type NewRecord struct {
	Name     string  `json:"name"`
	Type     string  `json:"type"`
	Content  string  `json:"content"`
	TTL      uint32  `json:"ttl"` // seconds; 1 = automatic
	Proxied  bool    `json:"proxied"`
	Priority *uint16 `json:"priority,omitempty"`
	Comment  string  `json:"comment,omitempty"`
}

// RecordFilter narrows a listing; empty fields do not.
type RecordFilter struct {
	Name string
	Type string
}

// Records lists a zone's records.
func (c *Client) Records(ctx context.Context, zoneID string, f RecordFilter) ([]zone.Record, error) {
	q := url.Values{}
	if f.Name != "" {
		q.Set("name", f.Name)
	}
	if f.Type != "" {
		q.Set("type", f.Type)
	}
	return pages[zone.Record](ctx, c, zonePath(zoneID, "/dns_records"), q)
}

// CreateRecord adds one record.
func (c *Client) CreateRecord(ctx context.Context, zoneID string, r NewRecord) (zone.Record, uint64, error) {
	var made zone.Record
	seq, err := c.json(ctx, http.MethodPost, zonePath(zoneID, "/dns_records"), r, &made)
	return made, seq, err
}

// DeleteRecord removes one record.
func (c *Client) DeleteRecord(ctx context.Context, zoneID, recordID string) (uint64, error) {
	return c.json(ctx, http.MethodDelete, zonePath(zoneID, "/dns_records/"+url.PathEscape(recordID)), nil, nil)
}

// RecordID names a record to delete in a batch.
type RecordID struct {
	ID string `json:"id"`
}

// Batch is a list of record changes that happen together or not at all. The
// API applies deletes first, then posts.
type Batch struct {
	Deletes []RecordID  `json:"deletes,omitempty"`
	Posts   []NewRecord `json:"posts,omitempty"`
}

// Batch changes several records in one step.
func (c *Client) Batch(ctx context.Context, zoneID string, b Batch) (uint64, error) {
	return c.json(ctx, http.MethodPost, zonePath(zoneID, "/dns_records/batch"), b, nil)
}

// Imported says what a zone file brought.
type Imported struct {
	Added  int `json:"recs_added"`
	Parsed int `json:"total_records_parsed"`
}

// Import adds the records of a zone file (RFC 1035 section 5), all or none;
// proxied applies to those that can be.
func (c *Client) Import(ctx context.Context, zoneID string, file io.Reader, proxied bool) (Imported, uint64, error) {
	var done Imported
	text, err := io.ReadAll(io.LimitReader(file, MaxZoneFile+1))
	if err != nil {
		return done, 0, fmt.Errorf("read zone file: %w", err)
	}
	if len(text) > MaxZoneFile {
		return done, 0, fmt.Errorf("zone file is over %d bytes", MaxZoneFile)
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", "zone.txt")
	if err == nil {
		_, err = part.Write(text)
	}
	if err == nil {
		err = form.WriteField("proxied", strconv.FormatBool(proxied))
	}
	if err == nil {
		err = form.Close()
	}
	if err != nil {
		return done, 0, fmt.Errorf("encode zone file: %w", err)
	}
	k := call{method: http.MethodPost, path: zonePath(zoneID, "/dns_records/import"), body: body.Bytes(), kind: form.FormDataContentType()}
	_, seq, err := c.result(ctx, k, &done)
	return done, seq, err
}

// Export returns a zone's records as a zone file.
func (c *Client) Export(ctx context.Context, zoneID string) ([]byte, error) {
	a, err := c.send(ctx, call{method: http.MethodGet, path: zonePath(zoneID, "/dns_records/export")})
	if err != nil {
		return nil, err
	}
	return a.body, nil
}
