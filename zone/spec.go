// Package zone is what a tenant asked for: plain data with JSON names and
// limits, as the control plane stores it and the feed carries it. It has no
// behaviour beyond checking itself; edge/snapshot turns a Spec into what an
// edge serves.
package zone

import (
	"encoding/json"
	"net/netip"
	"time"
)

// Spec is one tenant's zone, whole: the input of snapshot.Compile.
type Spec struct {
	Meta
	Settings     Settings
	Records      []Record
	Certificates []Certificate
	Rulesets     []Ruleset
	// Seq is the number of the newest feed entry that changed any part,
	// RecordsSeq of the newest that changed what DNS answers with.
	Seq, RecordsSeq uint64
}

// Meta is the zone itself.
type Meta struct {
	ID      string    `json:"id"`   // 32 hex digits
	Name    string    `json:"name"` // lower-case FQDN without the final dot, A-labels
	Account string    `json:"account_id"`
	Status  string    `json:"status"` // active | pending
	Paused  bool      `json:"paused"`
	Created time.Time `json:"created_on"`
	Changed time.Time `json:"modified_on"`
	// NameServers are the names that the zone's NS records and SOA carry.
	NameServers []string `json:"name_servers"`
}

// Record is one DNS record, as the API shows it.
type Record struct {
	ID       string          `json:"id"`
	Name     string          `json:"name"` // lower-case FQDN without the final dot; may start with "*."
	Type     string          `json:"type"`
	Content  string          `json:"content"` // verbatim, as the user sent it
	TTL      uint32          `json:"ttl"`     // seconds; 1 = automatic (300)
	Proxied  bool            `json:"proxied"` // A, AAAA and CNAME only
	Priority *uint16         `json:"priority,omitempty"`
	Data     json.RawMessage `json:"data,omitempty"` // SRV, CAA, HTTPS, as sent
	Comment  string          `json:"comment,omitempty"`
	Tags     []string        `json:"tags"`
	Created  time.Time       `json:"created_on"`
	Changed  time.Time       `json:"modified_on"`
}

// Proxiable reports whether a record of this type may be proxied.
func Proxiable(recordType string) bool {
	return recordType == "A" || recordType == "AAAA" || recordType == "CNAME"
}

// Certificate is a customer's certificate. The private key never stands here
// in the clear outside the memory of a process that needs it.
type Certificate struct {
	ID      string    `json:"id"`
	Chain   string    `json:"certificate"` // PEM, leaf first
	Hosts   []string  `json:"hosts"`       // from the leaf, lower-case, may start with "*."
	Expires time.Time `json:"expires_on"`
	// Managed certificates are issued and renewed by the control plane itself;
	// one that a customer sent goes before them.
	Managed bool `json:"managed,omitempty"`
	// Pair is the SHA-256, in hex, of the certificate's id, chain and encrypted
	// key: which of the pairs that travel beside the feed belongs to it.
	Pair string `json:"pair,omitempty"`
	// Sealed is the PKCS#8 private key encrypted under a data key of its own
	// (AES-256-GCM). Entries carry it no more; those of earlier versions did.
	Sealed []byte `json:"sealed,omitempty"`
	// PrivateKey is the opened PKCS#8 DER; filled by the edge, never encoded.
	PrivateKey []byte `json:"-"`
}

// Ruleset is an entrypoint ruleset, kept as the text that was sent so that it
// comes back byte for byte.
type Ruleset struct {
	Phase string          `json:"phase"`
	Body  json.RawMessage `json:"body"`
}

// Shared is what compiled zones of one node have in common.
type Shared struct {
	// Advertise are the addresses that a proxied name answers with.
	Advertise []netip.Addr
	// Colo is the node's data center code, three capital letters.
	Colo string
}

// Limits on one zone, checked where a change is accepted and again by Compile.
const (
	MaxRecords      = 20_000
	MaxRulesetBytes = 1 << 20
	MaxCertificates = 100
	MaxValueBytes   = 1 << 20 // of one feed value
)
