// Package script is the proof of the whole product: it starts the real binary
// with real parts around it (nginx, dig, Chromium, kill -9) and states what a
// user must see. It holds no product code.
package script
