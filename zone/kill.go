package zone

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Kill is a kill switch that all zones share, by its place in KillTable.
type Kill uint8

// The switches of KillTable, in its order.
const (
	KillCache Kill = iota
	KillCacheRules
	KillCompression
	KillDisk
	KillEarlyData
	KillEarlyHints
	KillHTTP3
	KillOriginRules
	KillReserve
	KillTiers
	killCount
)

// KillSwitch describes one switch.
type KillSwitch struct {
	Name string
	Doc  string // what visitors get while it is set
}

// KillTable is the one list of switches that are not about one zone: the API
// validates with it, edges read by it, documentation is made from it.
var KillTable = [killCount]KillSwitch{
	KillCache:       {"cache", "nothing is answered from the cache and nothing is stored; each request goes to its origin. What is stored stays and purges reach it, but an unsafe request makes nothing of it invalid"},
	KillCacheRules:  {"cache_rules", "rules of the phase http_request_cache_settings are not run; the cache goes by the origin's fields and the zone's settings"},
	KillCompression: {"compression", "answers have the coding that the origin gave them; none is made at the edge"},
	KillDisk:        {"disk", "the disk tier is neither asked nor filled; memory is"},
	KillEarlyData:   {"early_data", "each request in TLS early data is answered 425, and sent again by the browser after the handshake"},
	KillEarlyHints:  {"early_hints", "no 103 Early Hints are made"},
	KillHTTP3:       {"http3", "QUIC is not answered, answers over HTTP/1.1 and HTTP/2 take the advertisement back (Alt-Svc: clear), and connections that stand end after the answers in flight"},
	KillOriginRules: {"origin_rules", "rules of the phase http_request_origin are not run; the DNS record says which origin answers"},
	KillReserve:     {"reserve", "the cache reserve is neither asked nor filled"},
	KillTiers:       {"tiers", "no other edge is asked: each goes to the origin itself"},
}

// Kills is a set of switches.
type Kills uint64

// Has reports whether a switch is set.
func (k Kills) Has(s Kill) bool { return k&(1<<s) != 0 }

// With returns k with a switch set.
func (k Kills) With(s Kill) Kills { return k | 1<<s }

// FindKill returns the switch with this name; ok is false when there is none.
func FindKill(name string) (s Kill, ok bool) {
	i := slices.IndexFunc(KillTable[:], func(s KillSwitch) bool { return s.Name == name })
	return Kill(max(i, 0)), i >= 0
}

// PrefixKill begins the feed keys of switches: kill/{name}, kill/zone/{zone id}.
const PrefixKill = "kill/"

// killZone begins the names of switches that are about one zone.
const killZone = "zone/"

// KillKey is the feed key of a switch.
func KillKey(name string) string { return PrefixKill + name }

// KillZone is the name of the switch that turns one zone off.
func KillZone(zoneID string) string { return killZone + zoneID }

// KilledZone returns the zone's id when a name is of a switch for one zone.
func KilledZone(name string) (id string, ok bool) {
	id, ok = strings.CutPrefix(name, killZone)
	return id, ok
}

// Killed is the value of a switch that is set.
type Killed struct {
	Reason string    `json:"reason"`
	By     string    `json:"by"` // id of the token
	Since  time.Time `json:"since"`
	// Expires is when the control plane clears it; nil for never.
	Expires *time.Time `json:"expires,omitempty"`
}

// MaxKillReason bounds a reason, in bytes.
const MaxKillReason = 500

// Check refuses a reason that says nothing, or too much.
func (k *Killed) Check() error {
	switch {
	case strings.TrimSpace(k.Reason) == "":
		return errors.New("reason: is missing; those who find the switch set want to know why")
	case len(k.Reason) > MaxKillReason:
		return fmt.Errorf("reason: at most %d bytes are allowed, got %d", MaxKillReason, len(k.Reason))
	case !utf8.ValidString(k.Reason) || strings.ContainsRune(k.Reason, 0):
		return errors.New("reason: a NUL, or not UTF-8")
	}
	return nil
}

// ReadKilled reads the value of a switch.
func ReadKilled(value []byte) (k Killed, err error) {
	if err := json.Unmarshal(value, &k); err != nil {
		return k, fmt.Errorf("kill switch: %w", err)
	}
	return k, nil
}
