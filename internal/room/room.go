// Package room tells how much room a machine has left. It promises figures in
// bytes, and 0 for what cannot be known here.
package room
