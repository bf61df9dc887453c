package feed

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type serverCounters struct {
	encodes, sent, snapshots, refused, doorsFull, fetches atomic.Uint64
}

var serverDesc = struct{ peers, encodes, sent, snapshots, refused, behind, dropped, doorsFull, fetches *prometheus.Desc }{
	prometheus.NewDesc("selvage_feed_peers", "Subscribers connected, here and at relays below.", nil, nil),
	prometheus.NewDesc("selvage_feed_encodes_total", "Batches encoded, for everybody or for one who catches up.", nil, nil),
	prometheus.NewDesc("selvage_feed_sent_bytes_total", "Bytes of frames sent to subscribers.", nil, nil),
	prometheus.NewDesc("selvage_feed_snapshots_total", "Snapshots started for subscribers.", nil, nil),
	prometheus.NewDesc("selvage_feed_refused_total", "Connections refused: handshake, unknown node, bad hello, too many.", nil, nil),
	prometheus.NewDesc("selvage_feed_behind_entries", "Entries between the log's head and the slowest subscriber's acknowledgement.", nil, nil),
	prometheus.NewDesc("selvage_feed_reports_dropped_total", "Reports of nodes below relays that there was no room for.", nil, nil),
	prometheus.NewDesc("selvage_feed_down_dropped_total", "Frames for single subscribers that their full queue refused.", nil, nil),
	prometheus.NewDesc("selvage_feed_fetches_total", "Times a partial replica asked for values.", nil, nil),
}

var signalDesc = struct{ received, refused, sent, dropped, waiting, spooled, spoolBytes, spoolRefused *prometheus.Desc }{
	prometheus.NewDesc("selvage_feed_signals_received_total", "Signals of nodes below, by class.", []string{"class"}, nil),
	prometheus.NewDesc("selvage_feed_signals_refused_total", "Signals of nodes below that were not taken in, by why: class (not known here), unread (nobody here reads it), place (the node is not below the relay that speaks for it), payload (not understood). Of a place, nodes.", []string{"why"}, nil),
	prometheus.NewDesc("selvage_feed_signals_sent_total", "Signals given to the parent, of this node and those below, by class.", []string{"class"}, nil),
	prometheus.NewDesc("selvage_feed_signals_dropped_total", "Signals that a full queue or a newer one of its kind cost, by class; of audit, which is sent again.", []string{"class"}, nil),
	prometheus.NewDesc("selvage_feed_signals_waiting_bytes", "Signals that wait for the parent, by class, with what they cost to keep.", []string{"class"}, nil),
	prometheus.NewDesc("selvage_feed_audit_waiting", "Audit events on disk that the control plane has not stored yet.", nil, nil),
	prometheus.NewDesc("selvage_feed_audit_bytes", "Disk that audit events have.", nil, nil),
	prometheus.NewDesc("selvage_feed_audit_refused_total", "Audit events that are lost: their disk had no room, or failed.", nil, nil),
}

// Describe implements prometheus.Collector.
func (u *Up) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(u, ch) }

// Collect implements prometheus.Collector.
func (u *Up) Collect(ch chan<- prometheus.Metric) {
	var waiting [classes]int
	u.mu.Lock()
	for c := range u.queues {
		waiting[c] = u.queues[c].bytes
	}
	u.mu.Unlock()
	for c := ClassHealth; c < classes; c++ {
		counter(ch, signalDesc.sent, &u.sent[c], c.String())
		counter(ch, signalDesc.dropped, &u.dropped[c], c.String())
		gauge(ch, signalDesc.waiting, float64(waiting[c]), c.String())
	}
	if u.spool == nil {
		return
	}
	signals, bytes, _ := u.spool.Waiting()
	gauge(ch, signalDesc.spooled, float64(signals))
	gauge(ch, signalDesc.spoolBytes, float64(bytes))
	counter(ch, signalDesc.spoolRefused, &u.spool.refused)
}

// Collector is the server's metrics.
func (s *Server) Collector() prometheus.Collector { return s }

// Describe implements prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(s, ch) }

// Collect implements prometheus.Collector.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	peers := s.Peers()
	head, _ := s.cfg.Log.Head()
	behind := uint64(0)
	for _, p := range peers {
		if p.Acked < head {
			behind = max(behind, head-p.Acked)
		}
	}
	gauge(ch, serverDesc.peers, float64(len(peers)))
	gauge(ch, serverDesc.behind, float64(behind))
	counter(ch, serverDesc.encodes, &s.counters.encodes)
	counter(ch, serverDesc.sent, &s.counters.sent)
	counter(ch, serverDesc.snapshots, &s.counters.snapshots)
	counter(ch, serverDesc.refused, &s.counters.refused)
	counter(ch, serverDesc.dropped, &s.below.dropped)
	counter(ch, serverDesc.doorsFull, &s.counters.doorsFull)
	for c := ClassHealth; c < classes; c++ {
		counter(ch, signalDesc.received, &s.signals.received[c], c.String())
	}
	for why, name := range refusalNames {
		counter(ch, signalDesc.refused, &s.signals.refused[why], name)
	}
	counter(ch, serverDesc.fetches, &s.counters.fetches)
}

func gauge(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func counter(ch chan<- prometheus.Metric, d *prometheus.Desc, v *atomic.Uint64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v.Load()), labels...)
}

type subscriberCounters struct {
	reconnects, rejected, snapshots, doorsFull atomic.Uint64
}

var subscriberDesc = struct{ connected, head, applied, lag, behind, heard, reconnects, rejected, snapshots, doorsFull *prometheus.Desc }{
	prometheus.NewDesc("selvage_feed_connected", "1 while a parent is connected.", nil, nil),
	prometheus.NewDesc("selvage_feed_head_seq", "Newest number that a parent told of.", nil, nil),
	prometheus.NewDesc("selvage_feed_applied_seq", "Newest number stored and applied.", nil, nil),
	prometheus.NewDesc("selvage_feed_lag_entries", "Numbers between head and applied.", nil, nil),
	prometheus.NewDesc("selvage_feed_lag_seconds", "For how long applied has not been known to be the head; 0 while it is, and it grows while no parent is connected.", nil, nil),
	prometheus.NewDesc("selvage_feed_heartbeat_timestamp_seconds", "When a parent was last heard; 0: never.", nil, nil),
	prometheus.NewDesc("selvage_feed_reconnects_total", "Connections to a parent that failed or ended.", nil, nil),
	prometheus.NewDesc("selvage_feed_rejected_total", "Entries stored that could not be used.", nil, nil),
	prometheus.NewDesc("selvage_feed_bootstraps_total", "Snapshots begun from a parent.", nil, nil),
	prometheus.NewDesc("selvage_feed_up_dropped_total", "Frames for the parent that a full queue refused.", nil, nil),
}

// Collector is the subscriber's metrics.
func (s *Subscriber) Collector() prometheus.Collector { return s }

// Describe implements prometheus.Collector.
func (s *Subscriber) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(s, ch) }

// Collect implements prometheus.Collector.
func (s *Subscriber) Collect(ch chan<- prometheus.Metric) {
	st := s.Status()
	connected, heard := 0.0, 0.0
	if st.Connected {
		connected = 1
	}
	if !st.LastHeartbeat.IsZero() {
		heard = float64(st.LastHeartbeat.UnixMilli()) / 1000
	}
	gauge(ch, subscriberDesc.connected, connected)
	gauge(ch, subscriberDesc.head, float64(st.Head))
	gauge(ch, subscriberDesc.applied, float64(st.Applied))
	gauge(ch, subscriberDesc.lag, float64(max(st.Head, st.Applied)-st.Applied))
	gauge(ch, subscriberDesc.behind, st.Lag(time.Now()).Seconds())
	gauge(ch, subscriberDesc.heard, heard)
	counter(ch, subscriberDesc.reconnects, &s.counters.reconnects)
	counter(ch, subscriberDesc.rejected, &s.counters.rejected)
	counter(ch, subscriberDesc.snapshots, &s.counters.snapshots)
	counter(ch, subscriberDesc.doorsFull, &s.counters.doorsFull)
}
