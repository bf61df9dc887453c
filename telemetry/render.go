package telemetry

import (
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"
)

// render appends the JSON line of one encoded record. The field names are
// part of the product's contract: docs/reference/access-log.md.
func (l *AccessLog) render(p []byte, record []byte) []byte {
	d := reader{record}
	p = append(p, `{"time":"`...)
	p = time.Unix(0, int64(d.u64())).UTC().AppendFormat(p, "2006-01-02T15:04:05.000000Z")
	p = append(p, '"')
	duration, ray, seq, bytes := d.u64(), d.u64(), d.u64(), d.u64()
	connect, wait := d.u64(), d.u64()
	asn, age := d.u32(), d.u32()
	status, originStatus, originPort := d.u16(), d.u16(), d.u16()
	country := [2]byte{d.byte(), d.byte()}
	reused := d.byte() == 1
	client, originAddr := d.addr(), d.addr()
	p = append(p, `,"ray":"`...)
	p = appendHex(p, ray)
	p = append(p, `","colo":"`...)
	p = append(p, l.colo...)
	p = append(p, '"')
	phases := d.p[:1+5*int(d.p[0])]
	d.p = d.p[len(phases):]
	for _, name := range [...]string{"zone", "cache_status", "tier", "scheme", "proto", "tls", "fault", "host", "method", "path", "query", "user_agent", "referer"} {
		p = appendTextField(p, name, d.text())
	}
	p = appendNumber(p, "status", uint64(status))
	p = appendNumber(p, "bytes", bytes)
	p = appendNumber(p, "age", uint64(age))
	p = appendAddrField(p, "client_ip", client)
	if country != [2]byte{} {
		p = appendTextField(p, "country", country[:])
	}
	if asn != 0 {
		p = appendNumber(p, "asn", uint64(asn))
	}
	if originAddr.IsValid() {
		p = appendAddrField(p, "origin_ip", originAddr)
		p = appendNumber(p, "origin_port", uint64(originPort))
		p = appendNumber(p, "origin_status", uint64(originStatus))
		p = append(append(p, `,"origin_reused":`...), strconv.FormatBool(reused)...)
		p = appendNumber(p, "origin_connect_ns", connect)
		p = appendNumber(p, "origin_wait_ns", wait)
	}
	p = appendNumber(p, "duration_ns", duration)
	p = appendNumber(p, "seq", seq)
	p = l.appendPhases(p, phases)
	return append(p, '}', '\n')
}

func (l *AccessLog) appendPhases(p, phases []byte) []byte {
	d := reader{phases}
	p = append(p, `,"phases_ns":{`...)
	for i := range int(d.byte()) {
		if i > 0 {
			p = append(p, ',')
		}
		p = append(p, '"')
		p = append(p, l.phase(d.byte())...)
		p = append(p, `":`...)
		p = strconv.AppendUint(p, uint64(d.u32()), 10)
	}
	return append(p, '}')
}

func (l *AccessLog) phase(i byte) string {
	if int(i) < len(l.phases) {
		return l.phases[i]
	}
	return strconv.Itoa(int(i))
}

// appendTextField leaves empty texts out.
func appendTextField(p []byte, name string, text []byte) []byte {
	if len(text) == 0 {
		return p
	}
	p = append(p, ',', '"')
	p = append(p, name...)
	p = append(p, '"', ':', '"')
	p = appendEscaped(p, text)
	return append(p, '"')
}

func appendNumber(p []byte, name string, n uint64) []byte {
	p = append(p, ',', '"')
	p = append(p, name...)
	p = append(p, '"', ':')
	return strconv.AppendUint(p, n, 10)
}

func appendAddrField(p []byte, name string, a netip.Addr) []byte {
	p = append(p, ',', '"')
	p = append(p, name...)
	p = append(p, '"', ':', '"')
	if a.IsValid() {
		p = a.AppendTo(p)
	}
	return append(p, '"')
}

const hexDigits = "0123456789abcdef"

func appendHex(p []byte, n uint64) []byte {
	for shift := 60; shift >= 0; shift -= 4 {
		p = append(p, hexDigits[(n>>shift)&15])
	}
	return p
}

// plain marks the bytes that stand in a JSON string as they are.
var plain = func() (t [256]bool) {
	for c := 0x20; c < 0x7f; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// appendEscaped writes visitors' bytes so that the line stays one valid JSON
// line whatever they are (RFC 8259 §7); what is not UTF-8 becomes U+FFFD.
func appendEscaped(p, text []byte) []byte {
	for i := 0; i < len(text); {
		start := i
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
