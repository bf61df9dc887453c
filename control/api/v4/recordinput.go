package v4

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/selvage-edge/selvage/control/api"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/zone"
)

// Limits on one record.
const (
	minTTL     = 30    // seconds; 1 is automatic
	maxTTL     = 86400 // seconds
	maxComment = 500   // bytes
	maxTags    = 50
	maxTag     = 132 // bytes
)

var recordTypes = []string{"A", "AAAA", "CAA", "CNAME", "HTTPS", "MX", "NS", "PTR", "SRV", "TXT"}

// recordInput is a DNS record as it is sent; nil for what was not.
type recordInput struct {
	ID       *string         `json:"id"`
	Name     *string         `json:"name"`
	Type     *string         `json:"type"`
	Content  *string         `json:"content"`
	TTL      *float64        `json:"ttl"`
	Proxied  *bool           `json:"proxied"`
	Priority *float64        `json:"priority"`
	Data     json.RawMessage `json:"data"`
	Comment  *string         `json:"comment"`
	Tags     []string        `json:"tags"`
}

func (in *recordInput) post(z *store.Zone, id string) (*zone.Record, error) {
	r, err := in.fresh(z, id)
	if err != nil {
		return nil, err
	}
	return &r, addRecord(z, r)
}

// fresh is the record that was sent, checked, which z does not have yet.
func (in *recordInput) fresh(z *store.Zone, id string) (zone.Record, error) {
	now := store.Now()
	r := zone.Record{ID: id, TTL: 1, Tags: []string{}, Created: now, Changed: now}
	err := in.fill(z, &r)
	return r, err
}

func addRecord(z *store.Zone, r zone.Record) error {
	if len(z.Records) >= zone.MaxRecords {
		return api.Invalid(api.CodeQuota, "dns_records", "a zone may have %d records", zone.MaxRecords)
	}
	z.Records = append(z.Records, r)
	return nil
}

// put replaces everything but identity and time of creation.
func (in *recordInput) put(z *store.Zone, id string) (*zone.Record, error) {
	i, err := findRecord(z, id)
	if err != nil {
		return nil, err
	}
	r := zone.Record{ID: id, TTL: 1, Tags: []string{}, Created: z.Records[i].Created, Changed: store.Now()}
	if err := in.fill(z, &r); err != nil {
		return nil, err
	}
	return replace(z, i, r), nil
}

// patch replaces what was sent.
func (in *recordInput) patch(z *store.Zone, id string) (*zone.Record, error) {
	i, err := findRecord(z, id)
	if err != nil {
		return nil, err
	}
	r := z.Records[i]
	r.Changed = store.Now()
	// What was derived from the old form goes when the new one is sent.
	switch {
	case in.Data != nil:
		r.Content, r.Priority = "", nil
	case in.Content != nil:
		r.Data = nil
	}
	if err := in.fill(z, &r); err != nil {
		return nil, err
	}
	return replace(z, i, r), nil
}

// replace puts a record in another one's place. One that differs in nothing but its
// time is the old one: an identical write changes nothing.
func replace(z *store.Zone, i int, r zone.Record) *zone.Record {
	same := r
	if same.Changed = z.Records[i].Changed; !reflect.DeepEqual(same, z.Records[i]) {
		z.Records[i] = r
	}
	r = z.Records[i]
	return &r
}

// fill lays what was sent over r and checks the whole.
func (in *recordInput) fill(z *store.Zone, r *zone.Record) error {
	if in.Type != nil {
		r.Type = strings.ToUpper(*in.Type)
	}
	if !slices.Contains(recordTypes, r.Type) {
		return api.Invalid(api.CodeDNSValidation, "type", "must be one of %s, got %q", strings.Join(recordTypes, ", "), limit(r.Type, 40))
	}
	if in.Name != nil {
		name, err := RecordName(*in.Name, z.Name)
		if err != nil {
			return err
		}
		r.Name = name
	}
	if r.Name == "" {
		return api.Invalid(api.CodeDNSValidation, "name", "is missing")
	}
	if err := in.numbers(r); err != nil {
		return err
	}
	if in.Proxied != nil {
		r.Proxied = *in.Proxied
	}
	if r.Proxied && !zone.Proxiable(r.Type) {
		return api.Invalid(api.CodeDNSValidation, "proxied", "only A, AAAA and CNAME records can be proxied, not %s", r.Type)
	}
	if r.Proxied {
		r.TTL = 1 // the edges' addresses are what is answered
	}
	if err := in.value(r); err != nil {
		return err
	}
	return in.notes(r)
}

func (in *recordInput) numbers(r *zone.Record) error {
	if in.TTL != nil {
		if n := *in.TTL; n != float64(int64(n)) || n != 1 && (n < minTTL || n > maxTTL) {
			return api.Invalid(api.CodeDNSValidation, "ttl", "must be 1 (automatic) or from %d to %d seconds, got %v", minTTL, maxTTL, n)
		}
		r.TTL = uint32(*in.TTL)
	}
	if in.Priority != nil {
		n := *in.Priority
		if n != float64(uint16(n)) {
			return api.Invalid(api.CodeDNSValidation, "priority", "must be a whole number from 0 to 65535, got %v", n)
		}
		r.Priority = new(uint16(n))
	}
	return nil
}

// value takes content or data; what data says is also written as content.
func (in *recordInput) value(r *zone.Record) error {
	if in.Content != nil {
		r.Content = *in.Content
	}
	if in.Data != nil && string(in.Data) != "null" {
		d, err := readData(r.Type, in.Data)
		if err != nil {
			return err
		}
		if d != nil {
			r.Data = in.Data
			if in.Content == nil || r.Content == "" {
				r.Content = d.content()
			}
			if r.Type == "SRV" {
				r.Priority = d.Priority
			}
		}
	}
	if r.Content == "" {
		return api.Invalid(api.CodeDNSValidation, "content", "is missing")
	}
	if r.Type == "MX" && r.Priority == nil {
		return api.Invalid(api.CodeDNSValidation, "priority", "is missing: an MX record needs one")
	}
	if r.Type == "SRV" && r.Data == nil && r.Priority == nil && len(strings.Fields(r.Content)) != 4 {
		return api.Invalid(api.CodeDNSValidation, "priority", "is missing: an SRV record needs one, or data")
	}
	return nil
}

func (in *recordInput) notes(r *zone.Record) error {
	if in.Comment != nil {
		if len(*in.Comment) > maxComment {
			return api.Invalid(api.CodeDNSValidation, "comment", "at most %d bytes, got %d", maxComment, len(*in.Comment))
		}
		r.Comment = *in.Comment
	}
	if in.Tags == nil {
		return nil
	}
	if len(in.Tags) > maxTags {
		return api.Invalid(api.CodeDNSValidation, "tags", "at most %d, got %d", maxTags, len(in.Tags))
	}
	for i, tag := range in.Tags {
		if tag == "" || len(tag) > maxTag {
			return api.Invalid(api.CodeDNSValidation, "tags", "[%d] must have 1 to %d bytes", i, maxTag)
		}
	}
	r.Tags = in.Tags
	return nil
}

// recordData is the structured form of SRV, CAA and HTTPS. Its numbers and
// texts are the edges' compile's to judge, but for their presence and range.
type recordData struct {
	kind     string
	Priority *uint16 `json:"priority"`
	Weight   *uint16 `json:"weight"`
	Port     *uint16 `json:"port"`
	Target   *string `json:"target"`
	Flags    *uint8  `json:"flags"`
	Tag      *string `json:"tag"`
	Value    *string `json:"value"`
}

// readData returns nil for types that have no structured form: tools send an
// empty one.
func readData(kind string, raw json.RawMessage) (*recordData, error) {
	d := &recordData{kind: kind}
	if kind != "SRV" && kind != "CAA" && kind != "HTTPS" {
		if !strings.HasPrefix(string(raw), "{") {
			return nil, api.Invalid(api.CodeDNSValidation, "data", "must be an object")
		}
		return nil, nil
	}
	if err := api.Unmarshal(raw, d); err != nil {
		p := api.AsProblem(err)
		return nil, &api.Problem{Status: p.Status, Code: api.CodeDNSValidation, Message: "data." + strings.TrimPrefix(p.Message, "body: ")}
	}
	need := map[string]bool{}
	switch kind {
	case "SRV":
		need = map[string]bool{"priority": d.Priority != nil, "weight": d.Weight != nil, "port": d.Port != nil, "target": d.Target != nil}
	case "CAA":
		need = map[string]bool{"flags": d.Flags != nil, "tag": d.Tag != nil, "value": d.Value != nil}
	case "HTTPS":
		need = map[string]bool{"priority": d.Priority != nil, "target": d.Target != nil}
	}
	for _, name := range []string{"priority", "weight", "port", "target", "flags", "tag", "value"} {
		if has, asked := need[name]; asked && !has {
			return nil, api.Invalid(api.CodeDNSValidation, "data."+name, "is missing: a %s record needs it", kind)
		}
	}
	return d, nil
}

// content is the data as Cloudflare's API writes it into content.
func (d *recordData) content() string {
	switch d.kind {
	case "SRV":
		return fmt.Sprintf("%d %d %s", *d.Weight, *d.Port, *d.Target)
	case "CAA":
		return fmt.Sprintf("%d %s %s", *d.Flags, *d.Tag, strconv.Quote(*d.Value))
	}
	value := ""
	if d.Value != nil {
		value = *d.Value
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s %s", *d.Priority, *d.Target, value))
}

// RecordName brings a record's name into its one form: lower-case FQDN without
// the final dot. What is sent may be relative ("www"), "@", or an FQDN, with or
// without the final dot, in any case.
func RecordName(sent, zoneName string) (string, error) {
	if !utf8.ValidString(sent) {
		return "", api.Invalid(api.CodeDNSValidation, "name", "is not UTF-8")
	}
	name := strings.ToLower(strings.TrimSpace(sent))
	absolute := strings.HasSuffix(name, ".")
	name = strings.TrimSuffix(name, ".")
	if name == "@" || name == "" && sent == "" {
		return zoneName, nil
	}
	labels := strings.Split(name, ".")
	for i, l := range labels {
		if l == "*" && i == 0 {
			continue
		}
		if strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-_/") != "" {
			ascii, err := idna.Lookup.ToASCII(l)
			if err != nil {
				return "", api.Invalid(api.CodeDNSValidation, "name", "%q is not a host name", limit(sent, 80))
			}
			labels[i], l = ascii, ascii
		}
		if l == "" || len(l) > 63 {
			return "", api.Invalid(api.CodeDNSValidation, "name", "%q has a label that is empty or longer than 63 bytes", limit(sent, 80))
		}
	}
	name = strings.Join(labels, ".")
	if name != zoneName && !strings.HasSuffix(name, "."+zoneName) {
		if absolute {
			return "", api.Invalid(api.CodeDNSValidation, "name", "%q is not in the zone %s", limit(sent, 80), zoneName)
		}
		name += "." + zoneName
	}
	if len(name) > 253 {
		return "", api.Invalid(api.CodeDNSValidation, "name", "%q is longer than 253 bytes", limit(sent, 80))
	}
	return name, nil
}

// at says which item of a list an error is about.
func at(list string, i int, err error) error {
	p, ok := errors.AsType[*api.Problem](err)
	if !ok {
		return err
	}
	return &api.Problem{Status: p.Status, Code: p.Code, Message: fmt.Sprintf("%s[%d].%s", list, i, p.Message)}
}
