// Package world runs control planes around one database, relays and edges in one
// process, inside a testing/synctest bubble and over a network in memory with the
// distances of real data centers, while faults happen to them. It promises that a
// seed fixes the machines, their places, what is written and when, and which
// faults come when; in which order goroutines run at one moment of simulated time
// it does not fix, so a run that failed may have to be repeated. It is all tests:
// `make sim` runs many seeds, `make test` some.
package world
