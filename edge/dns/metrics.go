package dns

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// countedTypes are the query types with a counter of their own; all others
// share one.
var countedTypes = [...]uint16{
	dns.TypeA, dns.TypeAAAA, dns.TypeCAA, dns.TypeCNAME, dns.TypeDNSKEY, dns.TypeDS, dns.TypeHTTPS,
	dns.TypeMX, dns.TypeNS, dns.TypePTR, dns.TypeSOA, dns.TypeSRV, dns.TypeTXT, dns.TypeANY,
}

// bounds are the upper bounds of the latency histogram's buckets.
var bounds = [...]time.Duration{
	500 * time.Nanosecond, time.Microsecond, 2 * time.Microsecond, 5 * time.Microsecond,
	10 * time.Microsecond, 20 * time.Microsecond, 50 * time.Microsecond, 100 * time.Microsecond,
	time.Millisecond, 10 * time.Millisecond,
}

const (
	countedRcodes = dns.RcodeBadVers + 1
	protocols     = 2 // UDP, TCP
)

// counters belong to one worker, which alone writes them; a scrape adds all
// workers' up. Atomics make the reads safe, and uncontended they cost little.
type counters struct {
	queries   [protocols][len(countedTypes) + 1][countedRcodes]atomic.Uint64
	truncated [protocols]atomic.Uint64
	ignored   [protocols]atomic.Uint64 // not answered: no header, an answer, source port 0
	unsent    atomic.Uint64            // answers that the socket did not take
	buckets   [len(bounds) + 1]atomic.Uint64
	nanos     atomic.Uint64
}

func typeIndex(typ uint16) int {
	for i, t := range countedTypes {
		if t == typ {
			return i
		}
	}
	return len(countedTypes)
}

// count notes one message that was handled; n is its answer's length.
func (c *counters) count(r *reply, n, proto int) {
	if n == 0 {
		c.ignored[proto].Add(1)
		return
	}
	c.queries[proto][typeIndex(r.typ)][r.rcode].Add(1)
	if r.tc {
		c.truncated[proto].Add(1)
	}
}

// observe notes that count queries were answered in elapsed time altogether.
func (c *counters) observe(elapsed time.Duration, count int) {
	if count == 0 {
		return
	}
	each := elapsed / time.Duration(count)
	i := 0
	for i < len(bounds) && each > bounds[i] {
		i++
	}
	c.buckets[i].Add(uint64(count))
	c.nanos.Add(uint64(elapsed))
}

// descriptions of what Server.Collect sends.
type descriptions struct {
	queries, truncated, ignored, unsent, refusedConns, conns, unanswered, seconds *prometheus.Desc
}

func newDescriptions() descriptions {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return descriptions{
		queries:      desc("selvage_dns_queries_total", "Queries answered.", "proto", "type", "rcode"),
		truncated:    desc("selvage_dns_truncated_total", "Answers sent with TC because they did not fit.", "proto"),
		ignored:      desc("selvage_dns_ignored_total", "Messages not answered: too short, an answer themselves, or from port 0.", "proto"),
		unsent:       desc("selvage_dns_unsent_total", "Answers over UDP that the kernel did not take."),
		refusedConns: desc("selvage_dns_tcp_refused_total", "TCP connections closed at once because the limit was reached."),
		conns:        desc("selvage_dns_tcp_connections", "TCP connections open."),
		unanswered:   desc("selvage_dns_cold_failed_total", "Queries answered SERVFAIL because their zone could not be had from the copy in time, or too many waited."),
		seconds:      desc("selvage_dns_answer_seconds", "Server time per query, averaged over each batch read together."),
	}
}

// Describe implements prometheus.Collector.
func (s *Server) Describe(out chan<- *prometheus.Desc) {
	d := &s.desc
	for _, desc := range []*prometheus.Desc{d.queries, d.truncated, d.ignored, d.unsent, d.refusedConns, d.conns, d.unanswered, d.seconds} {
		out <- desc
	}
}

// Collect implements prometheus.Collector.
func (s *Server) Collect(out chan<- prometheus.Metric) {
	all := s.workers()
	sum := func(pick func(*counters) *atomic.Uint64) float64 {
		var n uint64
		for _, c := range all {
			n += pick(c).Load()
		}
		return float64(n)
	}
	counter := func(desc *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, v, labels...)
	}
	for proto, protoName := range [protocols]string{"udp", "tcp"} {
		for t := range len(countedTypes) + 1 {
			for rcode := range countedRcodes {
				n := sum(func(c *counters) *atomic.Uint64 { return &c.queries[proto][t][rcode] })
				if n > 0 {
					counter(s.desc.queries, n, protoName, typeName(t), rcodeName(rcode))
				}
			}
		}
		counter(s.desc.truncated, sum(func(c *counters) *atomic.Uint64 { return &c.truncated[proto] }), protoName)
		counter(s.desc.ignored, sum(func(c *counters) *atomic.Uint64 { return &c.ignored[proto] }), protoName)
	}
	counter(s.desc.unsent, sum(func(c *counters) *atomic.Uint64 { return &c.unsent }))
	counter(s.desc.refusedConns, float64(s.refusedConns.Load()))
	counter(s.desc.unanswered, float64(s.unanswered.Load()))
	out <- prometheus.MustNewConstMetric(s.desc.conns, prometheus.GaugeValue, float64(s.openConns.Load()))
	s.collectSeconds(out, sum)
}

func (s *Server) collectSeconds(out chan<- prometheus.Metric, sum func(func(*counters) *atomic.Uint64) float64) {
	buckets := make(map[float64]uint64, len(bounds))
	var count uint64
	for i := range len(bounds) + 1 {
		count += uint64(sum(func(c *counters) *atomic.Uint64 { return &c.buckets[i] }))
		if i < len(bounds) {
			buckets[bounds[i].Seconds()] = count
		}
	}
	nanos := sum(func(c *counters) *atomic.Uint64 { return &c.nanos })
	out <- prometheus.MustNewConstHistogram(s.desc.seconds, count, nanos/1e9, buckets)
}

func typeName(index int) string {
	if index == len(countedTypes) {
		return "other"
	}
	return dns.TypeToString[countedTypes[index]]
}

func rcodeName(rcode int) string {
	if rcode == dns.RcodeBadVers {
		return "BADVERS" // the library names 16 BADSIG, its other meaning
	}
	if s, ok := dns.RcodeToString[rcode]; ok {
		return s
	}
	return strconv.Itoa(rcode)
}
