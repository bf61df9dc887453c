package dns

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/selvage-edge/selvage/zone"
)

// Values of the SOA that every zone answers with (RFC 1035 §3.3.13), seconds.
// soaMinimum is also the SOA's TTL and so the life of a negative answer
// (RFC 2308 §5).
const (
	soaRefresh = 10000
	soaRetry   = 2400
	soaExpire  = 604800
	soaMinimum = 1800
	nsTTL      = 86400
)

const (
	maxSetBytes  = 60_000              // of one RRset: it has to fit into one message over TCP
	maxSlabBytes = 16 << 20            // of one zone's names and RRsets
	maxNames     = 4 * zone.MaxRecords // of one zone, empty non-terminals included
	maxAliases   = 8                   // CNAMEs followed for one answer
)

// Compile packs a zone's DNS records. It refuses whatever could not be
// answered correctly, naming record and field, and depends on its arguments
// only. A zone without records has its SOA and NS.
func Compile(spec *zone.Spec, shared *zone.Shared) (*Plan, error) {
	if len(spec.Records) > zone.MaxRecords {
		return nil, fmt.Errorf("dns records: %d are more than the limit of %d", len(spec.Records), zone.MaxRecords)
	}
	d := draft{id: spec.ID, names: make(map[string]*draftNode), paused: spec.Paused}
	if err := d.apexOf(spec, shared); err != nil {
		return nil, err
	}
	for i := range spec.Records {
		if err := d.add(&spec.Records[i]); err != nil {
			return nil, recordError(&spec.Records[i], err)
		}
	}
	if err := d.check(); err != nil {
		return nil, err
	}
	d.proxy()
	if err := d.flatten(); err != nil {
		return nil, err
	}
	if err := d.authority(spec); err != nil {
		return nil, err
	}
	return d.pack()
}

func recordError(r *zone.Record, err error) error {
	if r.ID != "" {
		return fmt.Errorf("dns record %s %s (id %s): %w", r.Name, r.Type, r.ID, err)
	}
	return fmt.Errorf("dns record %s %s: %w", r.Name, r.Type, err)
}

// draft is a zone being compiled. Names are in lower-case wire form.
type draft struct {
	id     string // of the zone
	apex   string
	fqdn   string // of the apex
	names  map[string]*draftNode
	edge   []netip.Addr
	paused bool
	order  []string // see sorted; set when all names are in
}

type draftNode struct {
	sets    []*draftSet
	proxied bool
	alias   *zone.Record // the CNAME here, proxied or not
	first   *zone.Record // for messages; nil for an empty non-terminal
}

type draftSet struct {
	typ     uint16
	ttl     uint32
	records []dns.RR
	source  *zone.Record // nil for what is synthesised
}

func (n *draftNode) set(typ uint16) *draftSet {
	i := slices.IndexFunc(n.sets, func(s *draftSet) bool { return s.typ == typ })
	if i < 0 {
		return nil
	}
	return n.sets[i]
}

// put adds records to the set of their type. An RRset has one TTL, the
// shortest asked for (RFC 2181 §5.2).
func (n *draftNode) put(source *zone.Record, records ...dns.RR) {
	for _, rr := range records {
		typ := rr.Header().Rrtype
		s := n.set(typ)
		if s == nil {
			s = &draftSet{typ: typ, ttl: rr.Header().Ttl, source: source}
			n.sets = append(n.sets, s)
		}
		s.ttl = min(s.ttl, rr.Header().Ttl)
		s.records = append(s.records, rr)
	}
}

func (n *draftNode) drop(typ uint16) {
	n.sets = slices.DeleteFunc(n.sets, func(s *draftSet) bool { return s.typ == typ })
}

func (d *draft) apexOf(spec *zone.Spec, shared *zone.Shared) error {
	wire, err := packName(spec.Name)
	if err != nil {
		return fmt.Errorf("name: %q is not a zone's name: %w", spec.Name, err)
	}
	if wire == "\x00" {
		return errors.New("name: the root cannot be a zone here")
	}
	d.apex, d.fqdn = wire, dns.Fqdn(spec.Name)
	d.names[wire] = &draftNode{}
	if shared != nil {
		d.edge = shared.Advertise
	}
	return nil
}

// add files one record under its name and makes its empty ancestors exist.
func (d *draft) add(r *zone.Record) error {
	owner, err := packName(r.Name)
	if err != nil {
		return fmt.Errorf("name: %q: %w", r.Name, err)
	}
	if !below(owner, d.apex) {
		return fmt.Errorf("name: %q is not in zone %s", r.Name, strings.TrimSuffix(d.fqdn, "."))
	}
	rr, err := parseRecord(r)
	if err != nil {
		return err
	}
	n := d.node(owner)
	if len(d.names) > maxNames {
		return fmt.Errorf("name: the zone has more than %d names, counting those between a name and the zone", maxNames)
	}
	if n.first == nil {
		n.first = r
	}
	switch rr.Header().Rrtype {
	case dns.TypeCNAME:
		if n.alias != nil {
			return errors.New("name: has a CNAME already, and can have only one")
		}
		n.alias = r
	case dns.TypeNS:
		if strings.HasPrefix(r.Name, "*.") {
			return errors.New("name: a wildcard cannot be delegated")
		}
	}
	n.proxied = n.proxied || (r.Proxied && !d.paused)
	n.put(r, rr)
	return nil
}

// node returns the draft of a name, making it and its ancestors exist.
func (d *draft) node(owner string) *draftNode {
	n := d.names[owner]
	if n != nil {
		return n
	}
	n = &draftNode{}
	d.names[owner] = n
	for at := parent(owner); d.names[at] == nil; at = parent(at) {
		d.names[at] = &draftNode{}
	}
	return n
}

// proxy replaces what a proxied name has to hide. One proxied address at a name
// makes all of them proxied: half of a secret is none.
func (d *draft) proxy() {
	for _, n := range d.names {
		if !n.proxied {
			continue
		}
		n.drop(dns.TypeA)
		n.drop(dns.TypeAAAA)
		n.drop(dns.TypeCNAME)
		n.put(nil, d.edgeRecords()...)
		if s := n.set(dns.TypeHTTPS); s != nil {
			dropHints(s)
		}
	}
}

func (d *draft) edgeRecords() []dns.RR {
	var records []dns.RR
	for _, a := range d.edge {
		a = a.Unmap().WithZone("")
		head := dns.RR_Header{Name: ".", Rrtype: dns.TypeAAAA, Class: dns.ClassINET, Ttl: automaticTTL}
		if a.Is4() {
			head.Rrtype = dns.TypeA
			records = append(records, &dns.A{Hdr: head, A: a.AsSlice()})
		} else if a.Is6() {
			records = append(records, &dns.AAAA{Hdr: head, AAAA: a.AsSlice()})
		}
	}
	return records
}

// dropHints takes address hints out of a proxied name's HTTPS records: they may
// be the origin's, and a client does without (RFC 9460 §7.3).
func dropHints(s *draftSet) {
	for _, rr := range s.records {
		https := rr.(*dns.HTTPS)
		https.Value = slices.DeleteFunc(https.Value, func(kv dns.SVCBKeyValue) bool {
			return kv.Key() == dns.SVCB_IPV4HINT || kv.Key() == dns.SVCB_IPV6HINT
		})
	}
}

// check refuses names whose records contradict each other (RFC 2181 §10.1).
func (d *draft) check() error {
	for _, owner := range d.sorted() {
		n := d.names[owner]
		if n.alias == nil {
			continue
		}
		for _, s := range n.sets {
			if s.typ == dns.TypeCNAME {
				continue
			}
			if s.typ == dns.TypeA || s.typ == dns.TypeAAAA || (owner != d.apex && !n.proxied) {
				return recordError(n.alias, fmt.Errorf("name: a CNAME cannot stand beside a %s record", dns.TypeToString[s.typ]))
			}
		}
	}
	return nil
}

// flatten replaces an unproxied CNAME at the apex by the addresses that it
// comes to inside the zone.
func (d *draft) flatten() error {
	apex := d.names[d.apex]
	s := apex.set(dns.TypeCNAME)
	if s == nil {
		return nil
	}
	alias, ttl := apex.alias, s.ttl
	apex.drop(dns.TypeCNAME)
	for range maxAliases {
		target, err := packName(s.records[0].(*dns.CNAME).Target)
		if err != nil {
			return recordError(alias, fmt.Errorf("content: %w", err))
		}
		if !below(target, d.apex) {
			return recordError(alias, fmt.Errorf("content: a CNAME at the apex that is not proxied must end inside the zone, and %q does not: proxy it, or use A and AAAA records", alias.Content))
		}
		n := d.lookup(target)
		if n == nil || n == apex {
			return recordError(alias, fmt.Errorf("content: %q comes to no address in the zone", alias.Content))
		}
		if s = n.set(dns.TypeCNAME); s == nil {
			return d.copyAddresses(apex, n, ttl, alias)
		}
		ttl = min(ttl, s.ttl)
	}
	return recordError(alias, fmt.Errorf("content: more than %d CNAMEs follow one another", maxAliases))
}

func (d *draft) copyAddresses(to, from *draftNode, ttl uint32, alias *zone.Record) error {
	for _, typ := range []uint16{dns.TypeA, dns.TypeAAAA} {
		s := from.set(typ)
		if s == nil {
			continue
		}
		for _, rr := range s.records {
			rr = dns.Copy(rr)
			rr.Header().Ttl = min(ttl, s.ttl)
			to.put(alias, rr)
		}
	}
	return nil
}

// lookup finds the node that answers for a name in the zone: itself, or the
// wildcard at its closest encloser.
func (d *draft) lookup(owner string) *draftNode {
	if n := d.names[owner]; n != nil {
		return n
	}
	for owner != d.apex {
		owner = parent(owner)
		if d.names[owner] != nil {
			return d.names["\x01*"+owner]
		}
	}
	return nil
}

// authority gives the apex its SOA, and NS when the user has none there.
func (d *draft) authority(spec *zone.Spec) error {
	apex := d.names[d.apex]
	head := dns.RR_Header{Name: ".", Rrtype: dns.TypeNS, Class: dns.ClassINET, Ttl: nsTTL}
	if apex.set(dns.TypeNS) == nil {
		for i, server := range spec.NameServers {
			target, err := targetName("name_servers", server, false)
			if err != nil {
				return fmt.Errorf("entry %d: %w", i, err)
			}
			apex.put(nil, &dns.NS{Hdr: head, Ns: target})
		}
	}
	first := d.fqdn
	if ns := apex.set(dns.TypeNS); ns != nil {
		first = ns.records[0].(*dns.NS).Ns
	}
	mailbox := "dns." + d.fqdn
	if _, err := packName(mailbox); err != nil {
		mailbox = d.fqdn // the zone's name leaves no room for the label
	}
	head.Rrtype, head.Ttl = dns.TypeSOA, soaMinimum
	apex.put(nil, &dns.SOA{
		Hdr: head, Ns: first, Mbox: mailbox, Serial: uint32(spec.RecordsSeq), // mod 2^32, RFC 1982
		Refresh: soaRefresh, Retry: soaRetry, Expire: soaExpire, Minttl: soaMinimum,
	})
	return nil
}

// sorted returns the zone's names in canonical order, the apex first.
func (d *draft) sorted() []string {
	if d.order != nil {
		return d.order
	}
	type entry struct {
		name string
		key  []byte
	}
	entries := make([]entry, 0, len(d.names))
	for owner := range d.names {
		entries = append(entries, entry{owner, sortKey(owner)})
	}
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(bytes.Compare(a.key, b.key), strings.Compare(a.name, b.name))
	})
	names := make([]string, len(entries))
	for i := range entries {
		names[i] = entries[i].name
	}
	d.order = names
	return names
}

// sortKey puts the labels in reverse, each closed by a byte below any other.
func sortKey(owner string) []byte {
	var labels []string
	for at := 0; owner[at] != 0; at += int(owner[at]) + 1 {
		labels = append(labels, owner[at+1:at+1+int(owner[at])])
	}
	key := make([]byte, 0, len(owner))
	for _, label := range slices.Backward(labels) {
		key = append(append(key, label...), 0)
	}
	return key
}

// packName returns a name's lower-case wire form.
func packName(s string) (string, error) {
	if s == "" {
		return "", errors.New("is empty")
	}
	if strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return "", errors.New("is not in ASCII form")
	}
	fqdn := dns.Fqdn(s)
	if _, ok := dns.IsDomainName(fqdn); !ok {
		return "", errors.New("is not a domain name")
	}
	var buf [maxName + 1]byte
	n, err := dns.PackDomainName(fqdn, buf[:], 0, nil, false)
	if err != nil || n > maxName {
		return "", errors.New("is not a domain name")
	}
	lowerName(buf[:n])
	return string(buf[:n]), nil
}

// lowerName lowers the letters of a wire-form name; length bytes are at most
// 63 and so never a capital letter's 65 to 90.
func lowerName(wire []byte) {
	for i, c := range wire {
		if 'A' <= c && c <= 'Z' {
			wire[i] = c + 'a' - 'A'
		}
	}
}

func parent(wire string) string { return wire[1+int(wire[0]):] }

// below reports whether a name is the apex or lies under it.
func below(owner, apex string) bool {
	for len(owner) > len(apex) {
		owner = parent(owner)
	}
	return owner == apex
}
