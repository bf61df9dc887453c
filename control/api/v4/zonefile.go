package v4

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/selvage-edge/selvage/control/api"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/zone"
)

type importResult struct {
	Added  int `json:"recs_added"`
	Parsed int `json:"total_records_parsed"`
}

// importRecords adds the records of a BIND zone file (RFC 1035 §5), all or
// nothing. The SOA and the NS of the zone itself are ours and passed over, and so
// is what exists just like that: a file that is imported again adds nothing.
func (s *Server) importRecords(ctx context.Context, c *api.Call) (api.Answer, error) {
	text, proxied, err := readUpload(c)
	if err != nil {
		return api.Answer{}, err
	}
	var out importResult
	seq, err := s.edit(ctx, c, api.CodeDNSValidation, "dns_record.import", "", func(z *store.Zone) error {
		inputs, parsed, err := parseZoneFile(text, z.Name, proxied)
		if err != nil {
			return err
		}
		out = importResult{Parsed: parsed}
		names, here := map[string]bool{}, valuesOf(z)
		for i := range inputs {
			r, err := inputs[i].fresh(z, newID())
			if err != nil {
				return at("file", i, err)
			}
			if here[valueOf(&r)] {
				continue
			}
			if err := addRecord(z, r); err != nil {
				return err
			}
			names[r.Name] = true
			out.Added++
		}
		return checkSets(z, names)
	})
	return api.Answer{Result: out, Seq: seq}, ownWords(err)
}

// recordValue is what tells an import that a record is there already: the same
// answers, in the same way. Comments and tags are not of a zone file.
type recordValue struct {
	name, kind, content string
	ttl                 uint32
	proxied             bool
	priority            int // -1 for none
	data                string
}

func valueOf(r *zone.Record) recordValue {
	v := recordValue{r.Name, r.Type, strings.TrimSuffix(r.Content, "."), r.TTL, r.Proxied, -1, string(r.Data)}
	if r.Priority != nil {
		v.priority = int(*r.Priority)
	}
	return v
}

func valuesOf(z *store.Zone) map[recordValue]bool {
	all := make(map[recordValue]bool, len(z.Records))
	for i := range z.Records {
		all[valueOf(&z.Records[i])] = true
	}
	return all
}

// checkSets is checkSet for many names in one pass over the records.
func checkSets(z *store.Zone, names map[string]bool) error {
	sets := map[string]*store.Zone{}
	for _, r := range z.Records {
		if !names[r.Name] {
			continue
		}
		if sets[r.Name] == nil {
			sets[r.Name] = &store.Zone{Meta: z.Meta}
		}
		sets[r.Name].Records = append(sets[r.Name].Records, r)
	}
	for name, set := range sets {
		if err := checkSet(set, name); err != nil {
			return err
		}
	}
	return nil
}

// readUpload reads the multipart form: file (a part with or without a file
// name) and proxied. A body of text/plain is taken as the file itself.
func readUpload(c *api.Call) (text []byte, proxied bool, err error) {
	kind, params, err := mime.ParseMediaType(c.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" {
		if kind != "text/plain" {
			return nil, false, api.Invalid(api.CodeBody, "file", "send the zone file as the field file of a multipart/form-data body")
		}
		text, err = io.ReadAll(c.Body)
		return text, false, err
	}
	parts := multipart.NewReader(c.Body, params["boundary"])
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, false, uploadError(err)
		}
		value, err := io.ReadAll(part)
		if err != nil {
			return nil, false, uploadError(err)
		}
		switch part.FormName() {
		case "file":
			text = value
		case "proxied":
			if proxied, err = strconv.ParseBool(string(value)); err != nil {
				return nil, false, api.Invalid(api.CodeDNSValidation, "proxied", "must be true or false, got %q", limit(string(value), 40))
			}
		}
	}
	if text == nil {
		return nil, false, api.Invalid(api.CodeBody, "file", "is missing")
	}
	return text, proxied, nil
}

func uploadError(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return err
	}
	return api.Invalid(api.CodeBody, "file", "the multipart body cannot be read: %s", err)
}

// parseZoneFile returns the records of a file and how many it had in all.
func parseZoneFile(text []byte, zoneName string, proxied bool) ([]recordInput, int, error) {
	p := dns.NewZoneParser(bytes.NewReader(text), dns.Fqdn(zoneName), "")
	p.SetIncludeAllowed(false)
	p.SetDefaultTTL(1)
	var all []recordInput
	parsed := 0
	for {
		rr, ok := p.Next()
		if !ok {
			break
		}
		if parsed++; parsed > zone.MaxRecords {
			return nil, 0, api.Invalid(api.CodeQuota, "file", "more than %d records", zone.MaxRecords)
		}
		in, err := ofRR(rr, zoneName, proxied)
		if err != nil {
			return nil, 0, at("file", parsed-1, err)
		}
		if in != nil {
			all = append(all, *in)
		}
	}
	if err := p.Err(); err != nil {
		return nil, 0, api.Invalid(api.CodeDNSValidation, "file", "%s", strings.TrimPrefix(err.Error(), "dns: "))
	}
	if parsed == 0 {
		return nil, 0, api.Invalid(api.CodeDNSValidation, "file", "has no records")
	}
	return all, parsed, nil
}

// ofRR turns a parsed record into what an API call would send; nil for those
// that are ours to make.
func ofRR(rr dns.RR, zoneName string, proxied bool) (*recordInput, error) {
	h := rr.Header()
	kind := dns.TypeToString[h.Rrtype]
	name := strings.ToLower(h.Name)
	if h.Class != dns.ClassINET {
		return nil, api.Invalid(api.CodeDNSValidation, "class", "must be IN")
	}
	if h.Rrtype == dns.TypeSOA || h.Rrtype == dns.TypeNS && strings.TrimSuffix(name, ".") == zoneName {
		return nil, nil
	}
	ttl := float64(h.Ttl)
	if h.Ttl != 1 {
		ttl = min(max(ttl, minTTL), maxTTL)
	}
	in := &recordInput{Name: &name, Type: &kind, TTL: &ttl}
	content := strings.TrimPrefix(rr.String(), h.String())
	switch v := rr.(type) {
	case *dns.MX:
		in.Priority = new(float64(v.Preference))
		content = v.Mx
	case *dns.SRV:
		in.Priority = new(float64(v.Priority))
		content = fmt.Sprintf("%d %d %s", v.Weight, v.Port, hostOf(v.Target))
	}
	if h.Rrtype == dns.TypeCNAME || h.Rrtype == dns.TypeMX || h.Rrtype == dns.TypeNS || h.Rrtype == dns.TypePTR {
		content = hostOf(content)
	}
	in.Content = &content
	if zone.Proxiable(kind) {
		in.Proxied = &proxied
	}
	return in, nil
}

// hostOf drops the final dot, as the API writes targets, but not the root's.
func hostOf(name string) string {
	if name == "." {
		return name
	}
	return strings.TrimSuffix(name, ".")
}

// exportRecords writes the zone as a BIND file that importRecords reads back.
// What a zone file has no place for stands in comments.
func (s *Server) exportRecords(ctx context.Context, c *api.Call) (api.Answer, error) {
	z, err := s.read(ctx, c)
	if err != nil {
		return api.Answer{}, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, ";;\n;; Domain: %s.\n;; Exported: %s\n;;\n$ORIGIN %s.\n", z.Name, stamp(store.Now()), z.Name)
	for i := range z.Records {
		b.WriteString(exportLine(&z.Records[i]))
	}
	return api.Answer{Text: b.Bytes()}, nil
}

func exportLine(r *zone.Record) string {
	line := fmt.Sprintf("%s.\t%d\tIN\t%s\t%s", r.Name, r.TTL, r.Type, exportContent(r))
	var notes []string
	if r.Comment != "" {
		notes = append(notes, strings.Map(printable, r.Comment))
	}
	tags := r.Tags
	if zone.Proxiable(r.Type) {
		tags = append([]string{"cf-proxied:" + strconv.FormatBool(r.Proxied)}, tags...)
	}
	if len(tags) > 0 {
		notes = append(notes, "cf_tags="+strings.Map(printable, strings.Join(tags, ",")))
	}
	if len(notes) > 0 {
		line += " ; " + strings.Join(notes, " ")
	}
	return line + "\n"
}

// printable keeps a comment on its line.
func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return ' '
	}
	return r
}

// exportContent is the record's value in zone file form.
func exportContent(r *zone.Record) string {
	content := r.Content
	switch r.Type {
	case "CNAME", "NS", "PTR":
		return dns.Fqdn(content)
	case "MX":
		if r.Priority != nil && len(strings.Fields(content)) == 1 {
			return strconv.Itoa(int(*r.Priority)) + " " + dns.Fqdn(content)
		}
	case "SRV":
		fields := strings.Fields(content)
		if r.Priority != nil && len(fields) == 3 {
			fields = append([]string{strconv.Itoa(int(*r.Priority))}, fields...)
		}
		if len(fields) == 4 {
			fields[3] = dns.Fqdn(fields[3])
		}
		return strings.Join(fields, " ")
	case "HTTPS":
		if fields := strings.Fields(content); len(fields) > 1 {
			fields[1] = dns.Fqdn(fields[1])
			return strings.Join(fields, " ")
		}
	case "TXT":
		if !strings.HasPrefix(content, `"`) {
			return quoteText(content)
		}
	}
	return content
}

// quoteText writes text as quoted strings of at most 255 bytes (RFC 1035 §3.3).
func quoteText(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if i%255 == 0 {
			if i > 0 {
				b.WriteString(`" `)
			}
			b.WriteByte('"')
		}
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, `\%03d`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
