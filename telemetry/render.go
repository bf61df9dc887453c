package telemetry

import (
	"encoding/binary"
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
	p = l.appendTime(p, int64(d.u64()))
	duration, ray, seq, bytes := d.u64(), d.u64(), d.u64(), d.u64()
	connect, wait := d.u64(), d.u64()
	asn, age := d.u32(), d.u32()
	status, originStatus, originPort := d.u16(), d.u16(), d.u16()
	country := [2]byte{d.byte(), d.byte()}
	reused := d.byte() == 1
	client, originAddr := d.addr(), d.addr()
	p = append(p, `","ray":"`...)
	p = appendHex(p, ray)
	p = append(p, `","colo":"`...)
	p = append(p, l.colo...)
	p = append(p, '"')
	phases := d.p[:1+5*int(d.p[0])]
	d.p = d.p[len(phases):]
	for _, key := range &textKeys {
		p = appendTextField(p, key, d.text())
	}
	p = appendNumber(p, `,"status":`, uint64(status))
	p = appendNumber(p, `,"bytes":`, bytes)
	p = appendNumber(p, `,"age":`, uint64(age))
	p = appendAddrField(p, "client_ip", client)
	if country != [2]byte{} {
		p = appendTextField(p, `,"country":"`, country[:])
	}
	if asn != 0 {
		p = appendNumber(p, `,"asn":`, uint64(asn))
	}
	if originAddr.IsValid() {
		p = appendAddrField(p, "origin_ip", originAddr)
		p = appendNumber(p, `,"origin_port":`, uint64(originPort))
		p = appendNumber(p, `,"origin_status":`, uint64(originStatus))
		p = append(append(p, `,"origin_reused":`...), strconv.FormatBool(reused)...)
		p = appendNumber(p, `,"origin_connect_ns":`, connect)
		p = appendNumber(p, `,"origin_wait_ns":`, wait)
	}
	p = appendNumber(p, `,"duration_ns":`, duration)
	p = appendNumber(p, `,"seq":`, seq)
	p = l.appendPhases(p, phases)
	return append(p, '}', '\n')
}

// textKeys begin the fields of a record's texts, in its order.
var textKeys = [...]string{
	`,"zone":"`, `,"cache_status":"`, `,"tier":"`, `,"scheme":"`, `,"proto":"`, `,"tls":"`, `,"fault":"`, `,"host":"`,
	`,"method":"`, `,"path":"`, `,"query":"`, `,"user_agent":"`, `,"referer":"`,
}

// stamp is the text of a second, with a point behind it. Owned by the writer.
type stamp struct {
	second int64
	text   []byte
}

// appendTime appends a time in UTC to the microsecond. Most records are of the
// same second as the one before.
func (l *AccessLog) appendTime(p []byte, nanos int64) []byte {
	second, rest := nanos/1e9, nanos%1e9
	if rest < 0 {
		return time.Unix(0, nanos).UTC().AppendFormat(p, "2006-01-02T15:04:05.000000Z")
	}
	if second != l.stamp.second || l.stamp.text == nil {
		l.stamp.second = second
		l.stamp.text = time.Unix(second, 0).UTC().AppendFormat(l.stamp.text[:0], "2006-01-02T15:04:05.")
	}
	p = append(p, l.stamp.text...)
	micros := uint32(rest / 1e3)
	var digits [7]byte
	for i := 5; i >= 0; i-- {
		digits[i] = byte('0' + micros%10)
		micros /= 10
	}
	digits[6] = 'Z'
	return append(p, digits[:]...)
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
func appendTextField(p []byte, key string, text []byte) []byte {
	if len(text) == 0 {
		return p
	}
	p = append(p, key...)
	p = appendEscaped(p, text)
	return append(p, '"')
}

func appendNumber(p []byte, key string, n uint64) []byte {
	return strconv.AppendUint(append(p, key...), n, 10)
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
