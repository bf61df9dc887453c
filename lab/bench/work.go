package main

// work is one thing that all servers do in turns.
type work struct {
	name  string // as -only takes it
	title string
	unit  string
	// load does the work on a server and returns what one unit of it cost.
	load func(*field, *server) (float64, error)
	ours string // which Selvage serves: "selvage", or one with other settings
	// peers are compared with, each under its bar.
	peers []peer
	// fresh starts a new server for each turn: what is measured is memory.
	fresh bool
	// bar is on our own figure, beside those on ratios; 0 = none.
	bar float64
}

// peer is a program that does the same work.
type peer struct {
	server string
	bar    float64 // highest ratio ours/theirs that is accepted; 0 = for information
}

const (
	micros  = "µs"
	millis  = "ms"
	times   = "×"
	kibi    = "KiB"
	kib     = 1 << 10
	mib     = 1 << 20
	diskSet = 1500 // objects of 100 KiB, over twice what the RAM tier may hold
)

// works is the table of issue 3's targets, in its order.
var works = []work{
	{
		name: "h1-1k", title: "hit of 1 KiB in memory, HTTP/1.1", unit: micros, load: wrk("/1k"), ours: "selvage",
		peers: []peer{{"nginx", .70}, {"varnish", .40}, {"h2o", 0}},
	},
	{
		name: "h2-1k", title: "hit of 1 KiB in memory, HTTP/2 over TLS 1.3, 32 connections of 10 streams", unit: micros, load: h2load("/1k"), ours: "selvage",
		peers: []peer{{"nginx", .30}, {"h2o", .85}},
	},
	{
		name: "h3-1k", title: "hit of 1 KiB in memory, HTTP/3, 32 connections of 10 streams", unit: micros, load: h3load("/1k"), ours: "selvage",
		peers: []peer{{"quic-go", .75}},
	},
	{
		name: "h1-32k", title: "hit of 32 KiB in memory, HTTP/1.1", unit: micros, load: wrk("/32k"), ours: "selvage",
		peers: []peer{{"nginx", .80}},
	},
	{
		name: "h1-1m", title: "hit of 1 MiB in memory, HTTP/1.1", unit: micros, load: wrk("/1m"), ours: "selvage",
		peers: []peer{{"nginx", .80}},
	},
	{
		name: "disk-100k", title: "hit of 100 KiB on disk, HTTP/1.1, set larger than the RAM tier", unit: micros, load: wrkDisk, ours: "selvage-disk",
		peers: []peer{{"nginx", 1.10}},
	},
	{
		name: "miss-1k", title: "miss of 1 KiB, stored, kept connections to the origin", unit: micros, load: wrkMiss, ours: "selvage",
		peers: []peer{{"nginx", 1.10}},
	},
	{
		name: "handshake", title: "full TLS 1.3 handshake, ECDSA P-256 and X25519, with one request", unit: micros, load: handshakes("handshake"), ours: "selvage",
		peers: []peer{{"nginx", .75}},
	},
	{
		name: "resumed", title: "resumed TLS 1.3 handshake with a key exchange, with one request", unit: micros, load: handshakes("resumed"), ours: "selvage",
		peers: []peer{{"nginx", 0}},
	},
	{
		name: "h2-128k", title: "hit of 128 KiB in memory, HTTP/2 over TLS 1.3", unit: micros, load: h2load("/128k"), ours: "selvage",
		peers: []peer{{"nginx", 0}},
	},
	{
		name: "idle-h1", title: "resident memory of an idle HTTP/1.1 connection, of 10,000", unit: kibi, load: idle("idle-h1", 10_000), ours: "selvage", fresh: true, bar: 8,
	},
	{
		name: "idle-h1-1k", title: "resident memory of an idle HTTP/1.1 connection, of 1,000", unit: kibi, load: idle("idle-h1", 1_000), ours: "selvage", fresh: true,
	},
	{
		name: "idle-h1-5k", title: "resident memory of an idle HTTP/1.1 connection, of 5,000", unit: kibi, load: idle("idle-h1", 5_000), ours: "selvage", fresh: true,
	},
	{
		name: "idle-h2", title: "resident memory of an idle HTTP/2 connection over TLS, of 10,000", unit: kibi, load: idle("idle-h2", 10_000), ours: "selvage", fresh: true, bar: 32,
	},
	{
		name: "idle-h2-1k", title: "resident memory of an idle HTTP/2 connection over TLS, of 1,000", unit: kibi, load: idle("idle-h2", 1_000), ours: "selvage", fresh: true,
	},
	{
		name: "idle-h2-5k", title: "resident memory of an idle HTTP/2 connection over TLS, of 5,000", unit: kibi, load: idle("idle-h2", 5_000), ours: "selvage", fresh: true,
	},
	{
		name: "p99-ram", title: "p99 of a hit of 1 KiB in memory at 70 % load", unit: millis, load: latency(warm1K, urls1K), ours: "selvage", bar: 1, peers: []peer{{"nginx", 0}},
	},
	{
		name: "p99-disk", title: "p99 of a hit of 100 KiB on disk at 70 % load", unit: millis, load: latency((*field).warmDisk, urlsDisk), ours: "selvage-disk", bar: 5, peers: []peer{{"nginx", 0}},
	},
	{name: "slow-head", title: "p99 beside 1,000 slow heads, of the undisturbed", unit: times, load: slow("-H"), ours: "selvage", fresh: true, bar: 1},
	{name: "slow-body", title: "p99 beside 1,000 slow bodies, of the undisturbed", unit: times, load: slow("-B"), ours: "selvage", fresh: true, bar: 1},
	{name: "slow-range", title: "p99 beside 1,000 connections with many ranges, of the undisturbed", unit: times, load: slow("-R"), ours: "selvage", fresh: true, bar: 1},
	{name: "slow-read", title: "p99 beside 1,000 slow readers, of the undisturbed", unit: times, load: slow("-X"), ours: "selvage", fresh: true, bar: 1},
}
