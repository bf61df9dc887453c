package cache

import (
	"bytes"

	"github.com/selvage-edge/selvage/edge/request"
	"github.com/selvage-edge/selvage/wire/msg"
)

// The three classes of devices, as CF-Device-Type names them.
var (
	deviceMobile  = []byte("mobile")
	deviceTablet  = []byte("tablet")
	deviceDesktop = []byte("desktop")
)

// maxAgent is how much of a User-Agent is looked at, in bytes.
const maxAgent = 512

var (
	tabletWords = [...]string{"ipad", "playbook", "kindle", "tablet"}
	mobileWords = [...]string{
		"phone", "ipod", "blackberry", "palm", "windows ce", "opera mini", "opera mobi", "avantgo", "mobilesafari",
		"docomo", "kaios", "iemobile",
	}
	// systems are on telephones where " mobile" follows, else on tablets.
	systems = [...]string{"android", "bb10", "meego", "silk"}
)

// deviceOf tells from the User-Agent what a visitor holds in hand. The words are
// those that Cloudflare documents for caching by device type.
func deviceOf(r *request.Request) []byte {
	var room [maxAgent]byte
	agent := r.In.Fields.Get(msg.UserAgent)
	agent = agent[:min(len(agent), maxAgent)]
	small := room[:len(agent)]
	for i, c := range agent {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		small[i] = c
	}
	for _, w := range tabletWords {
		if has(small, w) {
			return deviceTablet
		}
	}
	for _, w := range mobileWords {
		if has(small, w) {
			return deviceMobile
		}
	}
	for _, w := range systems {
		at := bytes.Index(small, []byte(w))
		if at < 0 {
			continue
		}
		if has(small[at:], "mobile") {
			return deviceMobile
		}
		return deviceTablet
	}
	if has(small, "googlebot") && has(small, "mobile") {
		return deviceMobile
	}
	return deviceDesktop
}

func has(b []byte, word string) bool { return bytes.Contains(b, []byte(word)) }
