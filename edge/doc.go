// Package edge is the data plane put together: listeners, the pipeline that
// each request walks, the answer, the log line, and the way a server comes up
// and goes away. pipeline.go is the design; the rest of the package serves it.
//
// Nothing here is touched by more than one request at a time except engines
// (which are safe for concurrent use), the hot table (read without a lock) and
// counters.
package edge
