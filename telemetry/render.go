package telemetry

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"
)

// line appends a record's JSON line, of at most maxLine bytes. The field names
// are part of the product's contract: docs/reference/access-log.md.
func (l *AccessLog) line(p []byte, at *stamp, r *Record) []byte {
	p = append(p, `{"time":"`...)
	p = at.append(p, r.Time.UnixNano())
	p = append(p, `","ray":"`...)
	p = appendHex(p, r.Ray)
	p = append(p, '"')
	if v := r.Visitor; v != nil {
		if v.was == nil || !v.same(v.was) {
			v.text = l.visitor(v.text[:0], v)
			v.keep()
		}
		p = append(p, v.text...)
	}
	p = appendTextField(p, `,"method":"`, r.Method, maxMethod)
	p = appendTextField(p, `,"path":"`, r.Path, maxPath)
	p = appendTextField(p, `,"query":"`, r.Query, maxQuery)
	p = appendTextField(p, `,"referer":"`, r.Referer, maxAgent)
	p = appendWord(p, `,"cache_status":"`, r.CacheStatus)
	p = appendWord(p, `,"tier":"`, r.Tier)
	p = appendTextField(p, `,"fault":"`, []byte(r.Fault), maxFault)
	p = appendNumber(p, `,"status":`, uint64(r.Status))
	p = appendNumber(p, `,"bytes":`, uint64(r.Bytes))
	p = appendNumber(p, `,"age":`, uint64(r.Age))
	if r.OriginAddr.Addr().IsValid() {
		p = appendAddrField(p, `,"origin_ip":"`, r.OriginAddr.Addr())
		p = appendNumber(p, `,"origin_port":`, uint64(r.OriginAddr.Port()))
		p = appendNumber(p, `,"origin_status":`, uint64(r.OriginStatus))
		p = strconv.AppendBool(append(p, `,"origin_reused":`...), r.OriginReused)
		p = appendNumber(p, `,"origin_connect_ns":`, uint64(r.OriginConnect))
		p = appendNumber(p, `,"origin_wait_ns":`, uint64(r.OriginWait))
	}
	p = appendNumber(p, `,"duration_ns":`, uint64(r.Duration))
	p = appendNumber(p, `,"seq":`, r.Seq)
	p = append(p, `,"phases_ns":{`...)
	p = l.appendPhases(p, r.Phases)
	return append(p, '}', '}', '\n')
}

// visitor appends what the lines of one visitor have in common.
func (l *AccessLog) visitor(p []byte, v *Visitor) []byte {
	p = appendWord(p, `,"colo":"`, l.colo)
	p = appendTextField(p, `,"zone":"`, []byte(v.Zone), maxHost)
	p = appendTextField(p, `,"host":"`, v.Host, maxHost)
	p = appendWord(p, `,"scheme":"`, v.Scheme)
	p = appendWord(p, `,"proto":"`, v.Proto)
	p = appendWord(p, `,"tls":"`, v.TLS)
	p = appendTextField(p, `,"user_agent":"`, v.UserAgent, maxAgent)
	p = appendAddrField(p, `,"client_ip":"`, v.Client)
	if v.Country != [2]byte{} {
		p = appendTextField(p, `,"country":"`, v.Country[:], len(v.Country))
	}
	if v.ASN != 0 {
		p = appendNumber(p, `,"asn":`, uint64(v.ASN))
	}
	return p
}

// stamp is the text of a second, with a point behind it.
type stamp struct {
	second int64
	text   []byte
}

// append appends a time in UTC to the microsecond. Most records are of the
// same second as the one before.
func (s *stamp) append(p []byte, nanos int64) []byte {
	second, rest := nanos/1e9, nanos%1e9
	if rest < 0 {
		return time.Unix(0, nanos).UTC().AppendFormat(p, "2006-01-02T15:04:05.000000Z")
	}
	if second != s.second || s.text == nil {
		s.second = second
		s.text = time.Unix(second, 0).UTC().AppendFormat(s.text[:0], "2006-01-02T15:04:05.")
	}
	p = append(p, s.text...)
	micros := uint32(rest / 1e3)
	var digits [7]byte
	for i := 5; i >= 0; i-- {
		digits[i] = byte('0' + micros%10)
		micros /= 10
	}
	digits[6] = 'Z'
	return append(p, digits[:]...)
}

// phaseKeys begin the fields of the rows: `"normalize":`.
func phaseKeys(names []string) []string {
	keys := make([]string, min(len(names), MaxPhases))
	for i := range keys {
		keys[i] = string(strconv.AppendQuote(nil, names[i])) + ":"
	}
	return keys
}

func (l *AccessLog) appendPhases(p []byte, phases *[MaxPhases]uint32) []byte {
	if phases == nil {
		return p
	}
	first := true
	for i, key := range l.phases {
		ns := phases[i]
		if ns == 0 {
			continue
		}
		if !first {
			p = append(p, ',')
		}
		first = false
		p = strconv.AppendUint(append(p, key...), uint64(ns), 10)
	}
	return p
}

// appendWord is appendTextField for a word of ours.
func appendWord(p []byte, key, word string) []byte {
	if word == "" {
		return p
	}
	return append(append(append(p, key...), word...), '"')
}

// appendTextField leaves empty texts out.
func appendTextField(p []byte, key string, text []byte, limit int) []byte {
	if len(text) == 0 {
		return p
	}
	p = append(p, key...)
	p = appendEscaped(p, text[:min(len(text), limit)])
	return append(p, '"')
}

func appendNumber(p []byte, key string, n uint64) []byte {
	return strconv.AppendUint(append(p, key...), n, 10)
}

func appendAddrField(p []byte, key string, a netip.Addr) []byte {
	p = append(p, key...)
	if a.IsValid() {
		p = a.AppendTo(p)
	}
	return append(p, '"')
}

const hexDigits = "0123456789abcdef"

func appendHex(p []byte, n uint64) []byte {
	var digits [16]byte
	for i := 15; i >= 0; i-- {
		digits[i] = hexDigits[n&15]
		n >>= 4
	}
	return append(p, digits[:]...)
}

// plain marks the bytes that stand in a JSON string as they are.
var plain = func() (t [256]bool) {
	for c := 0x20; c < 0x7f; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// allPlain reports that eight bytes are plain. It may say no where they are.
func allPlain(x uint64) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	quote, back, del := x^ones*'"', x^ones*'\\', x^ones*0x7f
	return (x|(x-ones*0x20)|(quote-ones)&^quote|(back-ones)&^back|(del-ones)&^del)&high == 0
}

// appendEscaped writes visitors' bytes so that the line stays one valid JSON
// line whatever they are (RFC 8259 §7); what is not UTF-8 becomes U+FFFD.
func appendEscaped(p, text []byte) []byte {
	for i := 0; i < len(text); {
		start := i
		for i+8 <= len(text) && allPlain(binary.LittleEndian.Uint64(text[i:])) {
			i += 8
		}
		for i < len(text) && plain[text[i]] {
			i++
		}
		p = append(p, text[start:i]...)
		if i == len(text) {
			return p
		}
		c := text[i]
		switch {
		case c == '"' || c == '\\':
			p = append(p, '\\', c)
			i++
		case c < utf8.RuneSelf:
			p = append(p, `\u00`...)
			p = append(p, hexDigits[c>>4], hexDigits[c&15])
			i++
		default:
			r, size := utf8.DecodeRune(text[i:])
			p = utf8.AppendRune(p, r)
			i += size
		}
	}
	return p
}
