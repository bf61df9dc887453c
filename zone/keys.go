package zone

import (
	"encoding/json"
	"fmt"
	"strings"
)

// The keys under which the feed carries a zone. A value is about 1 KB, so that
// a change moves what changed and no more:
//
//	name/{zone name}          → zone id
//	zone/{id}/meta            → Meta
//	zone/{id}/settings        → Settings
//	zone/{id}/dns/{name}      → []Record, all records at one name
//	zone/{id}/ruleset/{phase} → Ruleset
//	zone/{id}/cert/{cert id}  → Certificate (chain and sum of its pair; no key)
//	key/{cert id}/{node id}   → a data key, sealed to one node: of earlier versions
//	purge/{id}                → Purge; a signal: applied in order, not kept
//	operator/settings         → Settings of zones that have not set them themselves
const (
	PrefixName  = "name/"
	PrefixZone  = "zone/"
	PrefixKey   = "key/"
	PrefixPurge = "purge/"

	// PrefixOperator begins what the operator says for all zones.
	PrefixOperator = "operator/"
	KeyDefaults    = PrefixOperator + "settings"
)

func NameKey(zoneName string) string         { return PrefixName + zoneName }
func Prefix(zoneID string) string            { return PrefixZone + zoneID + "/" }
func MetaKey(zoneID string) string           { return Prefix(zoneID) + "meta" }
func RecordsPrefix(zoneID string) string     { return Prefix(zoneID) + "dns/" }
func SettingsKey(zoneID string) string       { return Prefix(zoneID) + "settings" }
func DNSKey(zoneID, name string) string      { return Prefix(zoneID) + "dns/" + name }
func RulesetKey(zoneID, phase string) string { return Prefix(zoneID) + "ruleset/" + phase }
func CertKey(zoneID, certID string) string   { return Prefix(zoneID) + "cert/" + certID }
func SealedKey(certID, nodeID string) string { return PrefixKey + certID + "/" + nodeID }
func PurgeKey(zoneID string) string          { return PrefixPurge + zoneID }

// Row is one key and its value, as stored on an edge or in the control store.
type Row struct {
	Key   string
	Value []byte
	Seq   uint64 // of the entry that wrote it
}

// Assemble builds a Spec from all rows under Prefix(zoneID). Rows of other
// zones or unknown kinds are an error: state that cannot be understood is not
// served in part.
func Assemble(zoneID string, rows []Row) (*Spec, error) {
	s := &Spec{}
	prefix := Prefix(zoneID)
	for _, row := range rows {
		part, ok := strings.CutPrefix(row.Key, prefix)
		if !ok {
			return nil, fmt.Errorf("zone %s: key %q belongs elsewhere", zoneID, row.Key)
		}
		if err := s.add(part, row.Value); err != nil {
			return nil, fmt.Errorf("zone %s: %s at seq %d: %w", zoneID, part, row.Seq, err)
		}
		s.Seq = max(s.Seq, row.Seq)
		if part == "meta" || strings.HasPrefix(part, "dns/") {
			s.RecordsSeq = max(s.RecordsSeq, row.Seq)
		}
	}
	if s.ID == "" {
		return nil, fmt.Errorf("zone %s: no meta", zoneID)
	}
	return s, nil
}

func (s *Spec) add(part string, value []byte) error {
	kind, _, _ := strings.Cut(part, "/")
	switch kind {
	case "meta":
		return json.Unmarshal(value, &s.Meta)
	case "settings":
		return json.Unmarshal(value, &s.Settings)
	case "dns":
		var records []Record
		if err := json.Unmarshal(value, &records); err != nil {
			return err
		}
		s.Records = append(s.Records, records...)
	case "ruleset":
		var r Ruleset
		if err := json.Unmarshal(value, &r); err != nil {
			return err
		}
		s.Rulesets = append(s.Rulesets, r)
	case "cert":
		var c Certificate
		if err := json.Unmarshal(value, &c); err != nil {
			return err
		}
		s.Certificates = append(s.Certificates, c)
	default:
		return fmt.Errorf("unknown kind of key")
	}
	return nil
}
