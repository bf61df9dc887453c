package v4

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/selvage-edge/selvage/control/api"
	"github.com/selvage-edge/selvage/control/publish"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/zone"
)

type reference struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
}

type zoneOwner struct {
	ID   *string `json:"id"`
	Name *string `json:"name"`
	Type string  `json:"type"`
}

type zoneMeta struct {
	Step                   int  `json:"step"`
	CustomCertificateQuota int  `json:"custom_certificate_quota"`
	PageRuleQuota          int  `json:"page_rule_quota"`
	PhishingDetected       bool `json:"phishing_detected"`
	CDNOnly                bool `json:"cdn_only"`
	DNSOnly                bool `json:"dns_only"`
	FoundationDNS          bool `json:"foundation_dns"`
}

type zonePlan struct {
	ID                string  `json:"id"`
	Name              string  `json:"name"`
	Price             float64 `json:"price"`
	Currency          string  `json:"currency"`
	Frequency         string  `json:"frequency"`
	IsSubscribed      bool    `json:"is_subscribed"`
	CanSubscribe      bool    `json:"can_subscribe"`
	LegacyID          string  `json:"legacy_id"`
	LegacyDiscount    bool    `json:"legacy_discount"`
	ExternallyManaged bool    `json:"externally_managed"`
}

type zoneResult struct {
	ID                  string    `json:"id"`
	Name                string    `json:"name"`
	Status              string    `json:"status"`
	Paused              bool      `json:"paused"`
	Type                string    `json:"type"`
	DevelopmentMode     int64     `json:"development_mode"`
	NameServers         []string  `json:"name_servers"`
	OriginalNameServers []string  `json:"original_name_servers"`
	OriginalRegistrar   *string   `json:"original_registrar"`
	OriginalDNSHost     *string   `json:"original_dnshost"`
	ModifiedOn          string    `json:"modified_on"`
	CreatedOn           string    `json:"created_on"`
	ActivatedOn         string    `json:"activated_on"`
	Meta                zoneMeta  `json:"meta"`
	Owner               zoneOwner `json:"owner"`
	Account             reference `json:"account"`
	Permissions         []string  `json:"permissions"`
	Plan                zonePlan  `json:"plan"`
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

func newZoneResult(m zone.Meta, account string, development int64) zoneResult {
	return zoneResult{
		ID: m.ID, Name: m.Name, Status: m.Status, Paused: m.Paused, Type: "full", DevelopmentMode: development,
		NameServers: nonNil(m.NameServers),
		ModifiedOn:  stamp(m.Changed), CreatedOn: stamp(m.Created), ActivatedOn: stamp(m.Created),
		Meta:        zoneMeta{Step: 2, CustomCertificateQuota: zone.MaxCertificates},
		Owner:       zoneOwner{Type: "organization"},
		Account:     reference{m.Account, account},
		Permissions: []string{"#zone:read", "#zone:edit", "#dns_records:read", "#dns_records:edit", "#zone_settings:read", "#zone_settings:edit", "#cache_purge:edit", "#ssl:read", "#ssl:edit"},
		Plan:        zonePlan{ID: "0feeeeeeeeeeeeeeeeeeeeeeeeeeeeee", Name: "Selvage", Currency: "USD", LegacyID: "free"},
	}
}

func nonNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// developmentLeft is how many seconds development mode still has: what the
// zone's development_mode field shows.
func developmentLeft(set map[string]store.Setting, now time.Time) int64 {
	d, ok := set["development_mode"]
	if !ok || d.Expires.IsZero() {
		return 0
	}
	return max(0, int64(d.Expires.Sub(now)/time.Second))
}

func (s *Server) accountName(ctx context.Context, c *api.Call) (string, error) {
	all, err := s.accounts(ctx, c)
	if err != nil || len(all) == 0 {
		return "", err
	}
	return all[0].Name, nil
}

func (s *Server) show(ctx context.Context, c *api.Call, z *store.Zone) (zoneResult, error) {
	name, err := s.accountName(ctx, c)
	return newZoneResult(z.Meta, name, developmentLeft(z.Settings, time.Now())), err
}

// ZoneName brings a zone's name into its one form: lower-case A-labels without
// the final dot (RFC 5891). It refuses what cannot be a zone.
func ZoneName(sent string) (string, error) {
	bad := func(why string) (string, error) {
		return "", api.Invalid(api.CodeZoneName, "name", "%q cannot be a zone: %s", limit(sent, 80), why)
	}
	if sent == "" {
		return bad("it is empty")
	}
	if _, err := netip.ParseAddr(strings.Trim(sent, "[]")); err == nil {
		return bad("it is an IP address")
	}
	name, err := idna.Lookup.ToASCII(strings.TrimSuffix(sent, "."))
	if err != nil {
		return bad(err.Error())
	}
	if !utf8.ValidString(sent) {
		return bad("it is not UTF-8")
	}
	labels := strings.Split(name, ".")
	if len(labels) < 2 {
		return bad("it needs at least two labels, as in example.com")
	}
	if len(name) > 253 {
		return bad("it is longer than 253 bytes")
	}
	for _, l := range labels {
		if err := label(l); err != "" {
			return bad(err)
		}
	}
	if strings.Trim(labels[len(labels)-1], "0123456789") == "" {
		return bad("its last label is a number")
	}
	return name, nil
}

// label says what is wrong with one label of a host name, "" for nothing.
func label(l string) string {
	switch {
	case l == "":
		return "it has an empty label"
	case len(l) > 63:
		return "a label is longer than 63 bytes"
	case strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
		return "a label may have letters, digits and hyphens only"
	case l[0] == '-' || l[len(l)-1] == '-':
		return "a label begins or ends with a hyphen"
	}
	return ""
}

func (s *Server) createZone(ctx context.Context, c *api.Call) (api.Answer, error) {
	var in struct {
		Name    *string `json:"name"`
		Type    string  `json:"type"`
		Account struct {
			ID string `json:"id"`
		} `json:"account"`
	}
	if err := api.Decode(c, &in); err != nil {
		return api.Answer{}, err
	}
	if in.Name == nil {
		return api.Answer{}, api.Invalid(api.CodeZoneName, "name", "is missing")
	}
	name, err := ZoneName(*in.Name)
	if err != nil {
		return api.Answer{}, err
	}
	if in.Type != "" && in.Type != "full" {
		return api.Answer{}, api.Invalid(api.CodeBadRequest, "type", "must be full, got %q", in.Type)
	}
	if in.Account.ID != "" && in.Account.ID != c.Token.Account {
		return api.Answer{}, api.Invalid(api.CodeBadRequest, "account.id", "the token has no access to account %q", limit(in.Account.ID, 64))
	}
	now := store.Now()
	z := &store.Zone{Meta: zone.Meta{
		ID: newID(), Name: name, Account: c.Token.Account, Status: statusActive,
		Created: now, Changed: now, NameServers: slices.Clone(s.NameServers),
	}}
	if s.Certify != nil {
		if err := s.Certify(z); err != nil {
			return api.Answer{}, err
		}
	}
	seq, err := s.Publish.Create(ctx, publish.Action{Actor: c.Token.ID, Name: "zone.create", Object: z.ID}, z)
	if err != nil {
		return api.Answer{}, api.Judged(err, api.CodeZoneName)
	}
	for _, made := range z.Staged {
		published, err := s.Deploy(ctx, z.ID, made.Ref())
		if err != nil {
			return api.Answer{}, err
		}
		seq = max(seq, published)
	}
	result, err := s.show(ctx, c, z)
	return api.Answer{Result: result, Seq: seq}, err
}

var zoneOrders = []string{"name", "status", "account.id", "account.name"}

func (s *Server) listZones(ctx context.Context, c *api.Call) (api.Answer, error) {
	q := c.URL.Query()
	pages, err := api.ReadPages(q, 20, 50)
	if err != nil {
		return api.Answer{}, err
	}
	if _, err := api.OneOf(q, "order", zoneOrders...); err != nil {
		return api.Answer{}, err
	}
	direction, err := api.OneOf(q, "direction", "asc", "desc")
	if err != nil {
		return api.Answer{}, err
	}
	status, err := api.OneOf(q, "status", "", "active", "pending", "initializing", "moved", "deleted", "deactivated")
	if err != nil {
		return api.Answer{}, err
	}
	match, err := api.OneOf(q, "match", "all", "any")
	if err != nil {
		return api.Answer{}, err
	}
	names, err := nameFilter(q.Get("name"))
	if err != nil {
		return api.Answer{}, err
	}
	var kept []zone.Meta
	expiry := map[string]int64{}
	if err := s.Store.Read(ctx, func(tx *store.Tx) error {
		all, err := candidates(ctx, tx, q.Get("name"), match)
		if err != nil {
			return err
		}
		for _, m := range all {
			tests := filters{any: match == "any"}
			tests.add(names != nil, names != nil && names(m.Name))
			tests.add(status != "", m.Status == status)
			tests.add(q.Get("account.id") != "", m.Account == q.Get("account.id"))
			if m.Account == c.Token.Account && tests.pass() {
				kept = append(kept, m)
			}
		}
		expiry, err = s.expiries(ctx, tx)
		return err
	}); err != nil {
		return api.Answer{}, err
	}
	// Status and account are the same for all zones of a token: every order is
	// by name in the end.
	slices.SortStableFunc(kept, func(a, b zone.Meta) int { return cmp.Compare(a.Name, b.Name) })
	if direction == "desc" {
		slices.Reverse(kept)
	}
	part, info := api.Cut(pages, kept)
	results := make([]zoneResult, len(part))
	account, err := s.accountName(ctx, c)
	for i, m := range part {
		results[i] = newZoneResult(m, account, expiry[m.ID])
	}
	return api.Answer{Result: results, Info: info}, err
}

// candidates reads the zones that a list may have: the one of an exact name, which
// is how tools find a zone, else all.
func candidates(ctx context.Context, tx *store.Tx, name, match string) ([]zone.Meta, error) {
	if name == "" || match == "any" || strings.Contains(name, ":") {
		return tx.Zones(ctx)
	}
	m, err := tx.ZoneNamed(ctx, strings.ToLower(name))
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	return []zone.Meta{m}, err
}

// expiries is how many seconds of development mode each zone has left.
func (s *Server) expiries(ctx context.Context, tx *store.Tx) (map[string]int64, error) {
	all, err := tx.Expiries(ctx)
	left := make(map[string]int64, len(all))
	now := time.Now()
	for _, e := range all {
		if e.Name == "development_mode" {
			left[e.Zone] = max(0, int64(e.At.Sub(now)/time.Second))
		}
	}
	return left, err
}

// nameFilter reads name=example.com or name=OPERATOR:example.com.
func nameFilter(text string) (func(string) bool, error) {
	if text == "" {
		return nil, nil
	}
	op, value, ok := strings.Cut(text, ":")
	if !ok {
		op, value = "equal", text
	}
	if !strings.HasSuffix(op, "_case_sensitive") { // zones' names are in lower case
		value = strings.ToLower(value)
	}
	switch op {
	case "equal":
		return func(n string) bool { return n == value }, nil
	case "not_equal":
		return func(n string) bool { return n != value }, nil
	case "starts_with", "starts_with_case_sensitive":
		return func(n string) bool { return strings.HasPrefix(n, value) }, nil
	case "ends_with", "ends_with_case_sensitive":
		return func(n string) bool { return strings.HasSuffix(n, value) }, nil
	case "contains", "contains_case_sensitive":
		return func(n string) bool { return strings.Contains(n, value) }, nil
	}
	return nil, api.Invalid(api.CodeBadRequest, "name", "unknown operator %q", limit(op, 40))
}

// filters joins tests by "all" or "any"; no test passes all.
type filters struct {
	any        bool
	asked, met int
}

func (f *filters) add(asked, met bool) {
	if !asked {
		return
	}
	f.asked++
	if met {
		f.met++
	}
}

func (f *filters) pass() bool {
	if f.any && f.asked > 0 {
		return f.met > 0
	}
	return f.met == f.asked
}

func (s *Server) getZone(ctx context.Context, c *api.Call) (api.Answer, error) {
	z, err := s.read(ctx, c)
	if err != nil {
		return api.Answer{}, err
	}
	result, err := s.show(ctx, c, z)
	return api.Answer{Result: result}, err
}

func (s *Server) patchZone(ctx context.Context, c *api.Call) (api.Answer, error) {
	var in struct {
		Paused *bool   `json:"paused"`
		Type   *string `json:"type"`
		Vanity []any   `json:"vanity_name_servers"`
	}
	if err := api.Decode(c, &in); err != nil {
		return api.Answer{}, err
	}
	if in.Type != nil && *in.Type != "full" {
		return api.Answer{}, api.Invalid(api.CodeBadRequest, "type", "must be full, got %q", *in.Type)
	}
	if len(in.Vanity) > 0 {
		return api.Answer{}, api.Invalid(api.CodeBadRequest, "vanity_name_servers", "is not supported")
	}
	var after *store.Zone
	seq, err := s.edit(ctx, c, api.CodeBadRequest, "zone.patch", "", func(z *store.Zone) error {
		if in.Paused != nil && *in.Paused != z.Paused {
			z.Paused = *in.Paused
			z.Changed = store.Now()
		}
		after = z
		return nil
	})
	if err != nil {
		return api.Answer{}, err
	}
	result, err := s.show(ctx, c, after)
	return api.Answer{Result: result, Seq: seq}, err
}

func (s *Server) deleteZone(ctx context.Context, c *api.Call) (api.Answer, error) {
	z, err := s.read(ctx, c)
	if err != nil {
		return api.Answer{}, err
	}
	seq, err := s.Publish.Remove(ctx, z.ID, publish.Action{Actor: c.Token.ID, Name: "zone.delete", Object: z.ID})
	return api.Answer{Result: reference{ID: z.ID}, Seq: seq}, err
}
