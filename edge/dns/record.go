package dns

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/selvage-edge/selvage/zone"
)

const (
	automaticTTL  = 300 // seconds; TTL 1, and every proxied name
	maxTTL        = 1<<31 - 1
	maxContent    = 4096 // bytes of a record's content or data
	maxTextString = 255  // RFC 1035 §3.3
)

// parseRecord turns a record into the form that packs. The owner is left empty
// and the TTL is the one to answer with. Errors begin with the field at fault.
func parseRecord(r *zone.Record) (dns.RR, error) {
	if len(r.Content) > maxContent {
		return nil, fmt.Errorf("content: longer than %d bytes", maxContent)
	}
	if len(r.Data) > maxContent {
		return nil, fmt.Errorf("data: longer than %d bytes", maxContent)
	}
	typ, ok := dns.StringToType[r.Type]
	parse := parsers[r.Type]
	if !ok || parse == nil {
		return nil, fmt.Errorf("type: %q cannot be served; may be one of %s", r.Type, servedTypes)
	}
	if r.TTL > maxTTL {
		return nil, fmt.Errorf("ttl: %d is over %d seconds", r.TTL, maxTTL)
	}
	if r.Proxied && !zone.Proxiable(r.Type) {
		return nil, fmt.Errorf("proxied: a %s record cannot be proxied", r.Type)
	}
	head := dns.RR_Header{Name: ".", Rrtype: typ, Class: dns.ClassINET, Ttl: r.TTL}
	if r.TTL <= 1 {
		head.Ttl = automaticTTL
	}
	return parse(head, r)
}

const servedTypes = "A, AAAA, CAA, CNAME, HTTPS, MX, NS, PTR, SRV, TXT"

var parsers = map[string]func(dns.RR_Header, *zone.Record) (dns.RR, error){
	"A":     parseA,
	"AAAA":  parseAAAA,
	"CAA":   parseCAA,
	"CNAME": parseTarget,
	"HTTPS": parseHTTPS,
	"MX":    parseMX,
	"NS":    parseTarget,
	"PTR":   parseTarget,
	"SRV":   parseSRV,
	"TXT":   parseTXT,
}

func parseA(h dns.RR_Header, r *zone.Record) (dns.RR, error) {
	a, err := netip.ParseAddr(r.Content)
	if err != nil || !a.Is4() {
		return nil, fmt.Errorf("content: %q is not an IPv4 address", r.Content)
	}
	return &dns.A{Hdr: h, A: a.AsSlice()}, nil
}

func parseAAAA(h dns.RR_Header, r *zone.Record) (dns.RR, error) {
	a, err := netip.ParseAddr(r.Content)
	if err != nil || !a.Is6() || a.Is4In6() || a.Zone() != "" {
		return nil, fmt.Errorf("content: %q is not an IPv6 address", r.Content)
	}
	return &dns.AAAA{Hdr: h, AAAA: a.AsSlice()}, nil
}

func parseTarget(h dns.RR_Header, r *zone.Record) (dns.RR, error) {
	target, err := targetName("content", r.Content, false)
	if err != nil {
		return nil, err
	}
	switch h.Rrtype {
	case dns.TypeCNAME:
		return &dns.CNAME{Hdr: h, Target: target}, nil
	case dns.TypeNS:
		return &dns.NS{Hdr: h, Ns: target}, nil
	}
	return &dns.PTR{Hdr: h, Ptr: target}, nil
}

func parseMX(h dns.RR_Header, r *zone.Record) (dns.RR, error) {
	content, priority := r.Content, r.Priority
	if fields := strings.Fields(content); len(fields) == 2 {
		n, err := strconv.ParseUint(fields[0], 10, 16)
		if err != nil {
			return nil, fmt.Errorf("content: %q is not a mail server's name", content)
		}
		if priority != nil && *priority != uint16(n) {
			return nil, fmt.Errorf("priority: %d contradicts the content %q", *priority, content)
		}
		own := uint16(n)
		content, priority = fields[1], &own
	}
	if priority == nil {
		return nil, errors.New("priority: is missing")
	}
	target, err := targetName("content", content, true) // "." is the null MX of RFC 7505
	if err != nil {
		return nil, err
	}
	return &dns.MX{Hdr: h, Preference: *priority, Mx: target}, nil
}

func parseTXT(h dns.RR_Header, r *zone.Record) (dns.RR, error) {
	parts := []string{r.Content}
	if strings.HasPrefix(r.Content, `"`) {
		var err error
		if parts, err = quoted(r.Content); err != nil {
			return nil, fmt.Errorf("content: %w", err)
		}
	} else if r.Content == "" {
		return nil, errors.New("content: is empty")
	}
	t := &dns.TXT{Hdr: h}
	for _, part := range parts {
		for len(part) > maxTextString {
			t.Txt = append(t.Txt, escape(part[:maxTextString]))
			part = part[maxTextString:]
		}
		t.Txt = append(t.Txt, escape(part))
	}
	return t, nil
}

// quoted reads one or more "…" strings with the escapes of RFC 1035 §5.1.
func quoted(s string) ([]string, error) {
	var parts []string
	for rest := strings.TrimSpace(s); rest != ""; rest = strings.TrimLeft(rest, " \t") {
		if rest[0] != '"' {
			return nil, fmt.Errorf("text %.20q stands outside the quotes", rest)
		}
		part, used, err := unquote(rest)
		if err != nil {
			return nil, err
		}
		parts, rest = append(parts, part), rest[used:]
	}
	return parts, nil
}

func unquote(s string) (part string, used int, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), i + 1, nil
		case '\\':
			if i+3 < len(s) && digits(s[i+1:i+4]) {
				n, err := strconv.ParseUint(s[i+1:i+4], 10, 8)
				if err != nil {
					return "", 0, fmt.Errorf(`escape \%s is over 255`, s[i+1:i+4])
				}
				b.WriteByte(byte(n))
				i += 3
				continue
			}
			if i++; i < len(s) {
				b.WriteByte(s[i])
			}
		default:
			b.WriteByte(s[i])
		}
	}
	return "", 0, errors.New("a quote is not closed")
}

func digits(s string) bool {
	return strings.IndexFunc(s, func(c rune) bool { return c < '0' || c > '9' }) < 0
}

// escape writes bytes so that the packing library takes each one as it is: it
// reads \DDD and \X in text.
func escape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	return strings.ReplaceAll(s, `\`, `\\`)
}

func parseSRV(h dns.RR_Header, r *zone.Record) (dns.RR, error) {
	if len(r.Data) > 0 {
		return srvData(h, r.Data)
	}
	fields := strings.Fields(r.Content)
	if len(fields) == 3 && r.Priority != nil {
		fields = append([]string{strconv.Itoa(int(*r.Priority))}, fields...)
	}
	if len(fields) != 4 {
		return nil, fmt.Errorf(`content: %q is not "weight port target" with a priority`, r.Content)
	}
	var n [3]uint16
	for i := range n {
		v, err := strconv.ParseUint(fields[i], 10, 16)
		if err != nil {
			return nil, fmt.Errorf("content: %q is not a number from 0 to 65535", fields[i])
		}
		n[i] = uint16(v)
	}
	if r.Priority != nil && *r.Priority != n[0] {
		return nil, fmt.Errorf("priority: %d contradicts the content %q", *r.Priority, r.Content)
	}
	target, err := targetName("content", fields[3], true)
	if err != nil {
		return nil, err
	}
	return &dns.SRV{Hdr: h, Priority: n[0], Weight: n[1], Port: n[2], Target: target}, nil
}

func srvData(h dns.RR_Header, data json.RawMessage) (dns.RR, error) {
	var d struct {
		Priority *uint16 `json:"priority"`
		Weight   *uint16 `json:"weight"`
		Port     *uint16 `json:"port"`
		Target   string  `json:"target"`
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, dataError(err)
	}
	if d.Priority == nil || d.Weight == nil || d.Port == nil {
		return nil, errors.New("data: priority, weight and port are all needed")
	}
	target, err := targetName("data.target", d.Target, true)
	if err != nil {
		return nil, err
	}
	return &dns.SRV{Hdr: h, Priority: *d.Priority, Weight: *d.Weight, Port: *d.Port, Target: target}, nil
}

func parseCAA(h dns.RR_Header, r *zone.Record) (dns.RR, error) {
	var d struct {
		Flags *uint8 `json:"flags"`
		Tag   string `json:"tag"`
		Value string `json:"value"`
	}
	if len(r.Data) == 0 {
		rr, err := presentation(h, r.Content)
		if err != nil {
			return nil, err
		}
		caa := rr.(*dns.CAA)
		if err := checkTag("content", caa.Tag); err != nil {
			return nil, err
		}
		return caa, nil
	}
	if err := json.Unmarshal(r.Data, &d); err != nil {
		return nil, dataError(err)
	}
	if d.Flags == nil {
		return nil, errors.New("data.flags: is missing")
	}
	if err := checkTag("data.tag", d.Tag); err != nil {
		return nil, err
	}
	return &dns.CAA{Hdr: h, Flag: *d.Flags, Tag: d.Tag, Value: escape(d.Value)}, nil
}

// checkTag enforces RFC 8659 §4.1: letters and digits, here at most 15.
func checkTag(field, tag string) error {
	odd := func(c rune) bool { return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') }
	if tag == "" || len(tag) > 15 || strings.ContainsFunc(tag, odd) {
		return fmt.Errorf("%s: CAA tag %.20q must be 1 to 15 letters and digits", field, tag)
	}
	return nil
}

func parseHTTPS(h dns.RR_Header, r *zone.Record) (dns.RR, error) {
	if len(r.Data) == 0 {
		return presentation(h, r.Content)
	}
	var d struct {
		Priority *uint16 `json:"priority"`
		Target   string  `json:"target"`
		Value    string  `json:"value"`
	}
	if err := json.Unmarshal(r.Data, &d); err != nil {
		return nil, dataError(err)
	}
	if d.Priority == nil {
		return nil, errors.New("data.priority: is missing")
	}
	target, err := targetName("data.target", d.Target, true)
	if err != nil {
		return nil, err
	}
	rr, err := presentation(h, strconv.Itoa(int(*d.Priority))+" "+target+" "+d.Value)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	return rr, nil
}

// presentation parses rdata in zone file form.
func presentation(h dns.RR_Header, content string) (dns.RR, error) {
	if strings.ContainsFunc(content, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return nil, errors.New("content: holds a control character")
	}
	rr, err := dns.NewRR(". " + strconv.FormatUint(uint64(h.Ttl), 10) + " IN " + dns.TypeToString[h.Rrtype] + " " + content)
	if err != nil {
		return nil, fmt.Errorf("content: %w", err)
	}
	if rr == nil || rr.Header().Rrtype != h.Rrtype {
		return nil, errors.New("content: is empty")
	}
	return rr, nil
}

func dataError(err error) error {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("data.%s: cannot be a %s", wrong.Field, wrong.Value)
	}
	return fmt.Errorf("data: %w", err)
}

// targetName checks a name that a record points to and makes it fully
// qualified; a name without final dot is taken as fully qualified already.
func targetName(field, s string, root bool) (string, error) {
	if s == "." && root {
		return s, nil
	}
	if s == "" || s == "." {
		return "", fmt.Errorf("%s: must name a host", field)
	}
	if strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return "", fmt.Errorf("%s: %q is not a domain name in ASCII form", field, s)
	}
	fqdn := dns.Fqdn(s)
	if _, ok := dns.IsDomainName(fqdn); !ok {
		return "", fmt.Errorf("%s: %q is not a domain name", field, s)
	}
	return fqdn, nil
}
