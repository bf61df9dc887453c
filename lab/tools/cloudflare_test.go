package tools

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudflare/cloudflare-go/v7"
	"github.com/cloudflare/cloudflare-go/v7/accounts"
	"github.com/cloudflare/cloudflare-go/v7/argo"
	"github.com/cloudflare/cloudflare-go/v7/cache"
	"github.com/cloudflare/cloudflare-go/v7/custom_certificates"
	"github.com/cloudflare/cloudflare-go/v7/custom_hostnames"
	"github.com/cloudflare/cloudflare-go/v7/dns"
	"github.com/cloudflare/cloudflare-go/v7/option"
	"github.com/cloudflare/cloudflare-go/v7/rulesets"
	"github.com/cloudflare/cloudflare-go/v7/shared"
	"github.com/cloudflare/cloudflare-go/v7/url_normalization"
	"github.com/cloudflare/cloudflare-go/v7/zones"
)

// TestCloudflareGo drives every endpoint through the unmodified SDK.
func TestCloudflareGo(t *testing.T) {
	plane := startControl(t)
	s := &sdk{T: t, ctx: t.Context(), client: cloudflare.NewClient(
		option.WithBaseURL(plane.API), option.WithAPIToken(plane.token), option.WithMaxRetries(0)), plane: plane}
	s.tokens()
	s.zones()
	s.records()
	s.batch()
	s.importExport()
	s.settings()
	s.purge()
	s.cacheSettings()
	s.cacheRules()
	s.certificates()
	s.rulesets()
	s.deleteZone()
}

type sdk struct {
	*testing.T
	ctx     context.Context
	client  *cloudflare.Client
	plane   *controlPlane
	account string
	zone    string
}

func (s *sdk) must(what string, err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", what, err)
	}
}

// refused checks that an error is the API's, with status, code and field.
func (s *sdk) refused(what string, err error, status int, code int64, field string) {
	s.Helper()
	e, ok := errors.AsType[*cloudflare.Error](err)
	if !ok {
		s.Errorf("%s: got %v, want an API error", what, err)
		return
	}
	if e.StatusCode != status || len(e.Errors) != 1 || e.Errors[0].Code != code || !strings.HasPrefix(e.Errors[0].Message, field) {
		s.Errorf("%s: got %d %+v, want %d, code %d, %q", what, e.StatusCode, e.Errors, status, code, field)
	}
}

func (s *sdk) tokens() {
	got, err := s.client.User.Tokens.Verify(s.ctx)
	s.must("verify", err)
	exact(s.T, "verify", got)
	if got.Status != "active" {
		s.Errorf("token is %s", got.Status)
	}
	_, err = cloudflare.NewClient(option.WithBaseURL(s.plane.API), option.WithAPIToken("wrong"), option.WithMaxRetries(0)).User.Tokens.Verify(s.ctx)
	s.refused("wrong token", err, http.StatusForbidden, 9109, "Invalid")
	pager := s.client.Accounts.ListAutoPaging(s.ctx, accounts.AccountListParams{})
	n := 0
	for pager.Next() {
		n++
		s.account = pager.Current().ID
		exact(s.T, "account", pager.Current())
	}
	s.must("accounts", pager.Err())
	if n != 1 {
		s.Fatalf("%d accounts", n)
	}
	one, err := s.client.Accounts.Get(s.ctx, accounts.AccountGetParams{AccountID: cloudflare.F(s.account)})
	s.must("account", err)
	exact(s.T, "account", one)
}

func (s *sdk) zones() {
	made, err := s.client.Zones.New(s.ctx, zones.ZoneNewParams{
		Name: cloudflare.F("SDK.Example"), Type: cloudflare.F(zones.TypeFull),
		Account: cloudflare.F(zones.ZoneNewParamsAccount{ID: cloudflare.F(s.account)}),
	})
	s.must("new zone", err)
	exact(s.T, "zone", made)
	s.zone = made.ID
	if made.Name != "sdk.example" || made.Status != "active" || len(made.NameServers) != 1 {
		s.Errorf("zone: %s", made.JSON.RawJSON())
	}
	_, err = s.client.Zones.New(s.ctx, zones.ZoneNewParams{
		Name: cloudflare.F("sdk.example"), Account: cloudflare.F(zones.ZoneNewParamsAccount{ID: cloudflare.F(s.account)}),
	})
	s.refused("zone again", err, http.StatusConflict, 1061, "name")
	_, err = s.client.Zones.New(s.ctx, zones.ZoneNewParams{Name: cloudflare.F("192.0.2.1"), Account: cloudflare.F(zones.ZoneNewParamsAccount{})})
	s.refused("zone of an address", err, http.StatusBadRequest, 1049, "name")
	pager := s.client.Zones.ListAutoPaging(s.ctx, zones.ZoneListParams{
		Name: cloudflare.F("sdk.example"), Status: cloudflare.F(zones.ZoneListParamsStatusActive),
		Account: cloudflare.F(zones.ZoneListParamsAccount{ID: cloudflare.F(s.account)}), PerPage: cloudflare.F(5.0),
		Order: cloudflare.F(zones.ZoneListParamsOrderName), Direction: cloudflare.F(zones.ZoneListParamsDirectionAsc),
	})
	n := 0
	for pager.Next() {
		n++
		exact(s.T, "zone in list", pager.Current())
	}
	s.must("zones", pager.Err())
	if n != 1 {
		s.Errorf("%d zones", n)
	}
	edited, err := s.client.Zones.Edit(s.ctx, zones.ZoneEditParams{ZoneID: cloudflare.F(s.zone), Paused: cloudflare.F(true)})
	s.must("edit zone", err)
	exact(s.T, "edited zone", edited)
	_, err = s.client.Zones.Edit(s.ctx, zones.ZoneEditParams{ZoneID: cloudflare.F(s.zone), Paused: cloudflare.F(false)})
	s.must("edit zone", err)
	got, err := s.client.Zones.Get(s.ctx, zones.ZoneGetParams{ZoneID: cloudflare.F(s.zone)})
	s.must("get zone", err)
	if !edited.Paused || got.Paused {
		s.Errorf("paused: %v, then %v", edited.Paused, got.Paused)
	}
	_, err = s.client.Zones.Get(s.ctx, zones.ZoneGetParams{ZoneID: cloudflare.F(strings.Repeat("0", 32))})
	s.refused("no zone", err, http.StatusNotFound, 1001, "zone_id")
}

func (s *sdk) newRecord(body dns.RecordNewParamsBodyUnion) *dns.RecordResponse {
	s.Helper()
	r, err := s.client.DNS.Records.New(s.ctx, dns.RecordNewParams{ZoneID: cloudflare.F(s.zone), Body: body})
	s.must("new record", err)
	exact(s.T, "record", r)
	return r
}

func address(name, content string) dns.ARecordParam {
	return dns.ARecordParam{Name: cloudflare.F(name), TTL: cloudflare.F(dns.TTL1), Type: cloudflare.F(dns.ARecordTypeA), Content: cloudflare.F(content)}
}

func (s *sdk) records() {
	a := s.newRecord(dns.ARecordParam{
		Name: cloudflare.F("WWW"), TTL: cloudflare.F(dns.TTL1), Type: cloudflare.F(dns.ARecordTypeA), Content: cloudflare.F("192.0.2.1"),
		Proxied: cloudflare.F(true), Comment: cloudflare.F("by the SDK"), Tags: cloudflare.F([]dns.RecordTags{"a:b"}),
	})
	if a.Name != "www.sdk.example" || !a.Proxied || a.Comment != "by the SDK" {
		s.Errorf("record: %s", a.JSON.RawJSON())
	}
	srv := s.newRecord(dns.SRVRecordParam{
		Name: cloudflare.F("_sip._tcp"), TTL: cloudflare.F(dns.TTL1), Type: cloudflare.F(dns.SRVRecordTypeSRV),
		Data: cloudflare.F(dns.SRVRecordDataParam{Priority: cloudflare.F(1.0), Weight: cloudflare.F(2.0), Port: cloudflare.F(5060.0), Target: cloudflare.F("sip.sdk.example")}),
	})
	// The SDK's union reads every record as the first variant that fits, so
	// priority and data stand in the raw text only.
	if raw := srv.JSON.RawJSON(); srv.Content != "2 5060 sip.sdk.example" || !strings.Contains(raw, `"priority":1,`) || !strings.Contains(raw, `"port":5060`) {
		s.Errorf("SRV: %s", raw)
	}
	s.newRecord(dns.MXRecordParam{Name: cloudflare.F("@"), TTL: cloudflare.F(dns.TTL(300)), Type: cloudflare.F(dns.MXRecordTypeMX), Content: cloudflare.F("mail.sdk.example"), Priority: cloudflare.F(10.0)})
	s.newRecord(dns.CAARecordParam{Name: cloudflare.F("sdk.example"), TTL: cloudflare.F(dns.TTL1), Type: cloudflare.F(dns.CAARecordTypeCAA),
		Data: cloudflare.F(dns.CAARecordDataParam{Flags: cloudflare.F(0.0), Tag: cloudflare.F("issue"), Value: cloudflare.F("ca.test")})})
	s.newRecord(dns.HTTPSRecordParam{Name: cloudflare.F("h"), TTL: cloudflare.F(dns.TTL1), Type: cloudflare.F(dns.HTTPSRecordTypeHTTPS),
		Data: cloudflare.F(dns.HTTPSRecordDataParam{Priority: cloudflare.F(1.0), Target: cloudflare.F("."), Value: cloudflare.F(`alpn="h2"`)})})
	got, err := s.client.DNS.Records.Get(s.ctx, a.ID, dns.RecordGetParams{ZoneID: cloudflare.F(s.zone)})
	s.must("get record", err)
	exact(s.T, "record", got)
	edited, err := s.client.DNS.Records.Edit(s.ctx, a.ID, dns.RecordEditParams{ZoneID: cloudflare.F(s.zone), Body: address("www", "192.0.2.2")})
	s.must("edit record", err)
	updated, err := s.client.DNS.Records.Update(s.ctx, a.ID, dns.RecordUpdateParams{ZoneID: cloudflare.F(s.zone), Body: address("www", "192.0.2.3")})
	s.must("update record", err)
	if !edited.Proxied || edited.Content != "192.0.2.2" || updated.Proxied || updated.Content != "192.0.2.3" {
		s.Errorf("edited %+v, updated %+v", edited, updated)
	}
	_, err = s.client.DNS.Records.New(s.ctx, dns.RecordNewParams{ZoneID: cloudflare.F(s.zone), Body: address("www", "192.0.2.3")})
	s.refused("same record", err, http.StatusConflict, 81058, "name")
	_, err = s.client.DNS.Records.New(s.ctx, dns.RecordNewParams{ZoneID: cloudflare.F(s.zone), Body: address("x", "nonsense")})
	s.refused("bad record", err, http.StatusBadRequest, 9005, "content")
	pager := s.client.DNS.Records.ListAutoPaging(s.ctx, dns.RecordListParams{
		ZoneID: cloudflare.F(s.zone), PerPage: cloudflare.F(2.0), Order: cloudflare.F(dns.RecordListParamsOrderName)})
	n := 0
	for pager.Next() {
		n++
		exact(s.T, "record in list", pager.Current())
	}
	s.must("records", pager.Err())
	if n != 5 {
		s.Errorf("%d records, want 5", n)
	}
	page, err := s.client.DNS.Records.List(s.ctx, dns.RecordListParams{ZoneID: cloudflare.F(s.zone),
		Name: cloudflare.F(dns.RecordListParamsName{Exact: cloudflare.F("www.sdk.example")}), Type: cloudflare.F(dns.RecordListParamsTypeA), Match: cloudflare.F(dns.RecordListParamsMatchAll)})
	s.must("filtered records", err)
	if len(page.Result) != 1 {
		s.Errorf("filter by name: %+v", page.Result)
	}
	gone, err := s.client.DNS.Records.Delete(s.ctx, a.ID, dns.RecordDeleteParams{ZoneID: cloudflare.F(s.zone)})
	s.must("delete record", err)
	exact(s.T, "deleted record", gone)
	_, err = s.client.DNS.Records.Get(s.ctx, a.ID, dns.RecordGetParams{ZoneID: cloudflare.F(s.zone)})
	s.refused("deleted record", err, http.StatusNotFound, 81044, "dns_record_id")
}

func (s *sdk) batch() {
	one, two, three := s.newRecord(address("b1", "192.0.2.1")), s.newRecord(address("b2", "192.0.2.1")), s.newRecord(address("b3", "192.0.2.1"))
	out, err := s.client.DNS.Records.Batch(s.ctx, dns.RecordBatchParams{
		ZoneID:  cloudflare.F(s.zone),
		Deletes: cloudflare.F([]dns.RecordBatchParamsDelete{{ID: cloudflare.F(one.ID)}}),
		Patches: cloudflare.F([]dns.BatchPatchUnionParam{dns.BatchPatchARecordParam{ID: cloudflare.F(two.ID), ARecordParam: address("b2", "192.0.2.2")}}),
		Puts:    cloudflare.F([]dns.BatchPutUnionParam{dns.BatchPutARecordParam{ID: cloudflare.F(three.ID), ARecordParam: address("b3", "192.0.2.3")}}),
		Posts:   cloudflare.F([]dns.RecordBatchParamsPostUnion{address("b4", "192.0.2.4")}),
	})
	s.must("batch", err)
	exact(s.T, "batch", out)
	if len(out.Deletes) != 1 || out.Patches[0].Content != "192.0.2.2" || out.Puts[0].Content != "192.0.2.3" || out.Posts[0].Name != "b4.sdk.example" {
		s.Errorf("batch: %s", out.JSON.RawJSON())
	}
}

func (s *sdk) importExport() {
	got, err := s.client.DNS.Records.Import(s.ctx, dns.RecordImportParams{ZoneID: cloudflare.F(s.zone), Proxied: cloudflare.F("true"),
		File: cloudflare.F("i1 300 IN A 192.0.2.1\ni2 300 IN TXT \"imported\"\n")})
	s.must("import", err)
	exact(s.T, "import", got)
	if got.RecsAdded != 2 || got.TotalRecordsParsed != 2 {
		s.Errorf("import: %+v", got)
	}
	text, err := s.client.DNS.Records.Export(s.ctx, dns.RecordExportParams{ZoneID: cloudflare.F(s.zone)})
	s.must("export", err)
	if !strings.Contains(*text, "i2.sdk.example.\t300\tIN\tTXT\t\"imported\"") {
		s.Errorf("export:\n%s", *text)
	}
}

func (s *sdk) settings() {
	for name, value := range map[string]zones.SettingEditParamsBodyValueValueUnion{
		"ssl": shared.UnionString("strict"), "always_use_https": shared.UnionString("on"),
		"development_mode": shared.UnionString("on"), "min_tls_version": shared.UnionString("1.3"),
		"browser_cache_ttl": shared.UnionFloat(14400), "cache_level": shared.UnionString("simplified"), "http3": shared.UnionString("off"), "0rtt": shared.UnionString("on"),
	} {
		_, err := s.client.Zones.Settings.Edit(s.ctx, name, zones.SettingEditParams{ZoneID: cloudflare.F(s.zone), Body: zones.SettingEditParamsBodyValue{
			Value: cloudflare.F(value)}})
		s.must("edit "+name, err)
		got, err := s.client.Zones.Settings.Get(s.ctx, name, zones.SettingGetParams{ZoneID: cloudflare.F(s.zone)})
		s.must("get "+name, err)
		exact(s.T, name, got)
	}
	_, err := s.client.Zones.Settings.Get(s.ctx, "nonsense", zones.SettingGetParams{ZoneID: cloudflare.F(s.zone)})
	s.refused("unknown setting", err, http.StatusNotFound, 1006, "nonsense")
}

func (s *sdk) purge() {
	for _, body := range []cache.CachePurgeParamsBodyUnion{
		cache.CachePurgeParamsBodyCachePurgeEverything{PurgeEverything: cloudflare.F(true)},
		cache.CachePurgeParamsBodyCachePurgeFlexPurgeByTags{Tags: cloudflare.F([]string{"a", "b c"})},
		cache.CachePurgeParamsBodyCachePurgeFlexPurgeByHostnames{Hosts: cloudflare.F([]string{"www.sdk.example"})},
		cache.CachePurgeParamsBodyCachePurgeFlexPurgeByPrefixes{Prefixes: cloudflare.F([]string{"www.sdk.example/img"})},
		cache.CachePurgeParamsBodyCachePurgeSingleFile{Files: cloudflare.F([]string{"https://www.sdk.example/a"})},
		cache.CachePurgeParamsBodyCachePurgeSingleFileWithURLAndHeaders{Files: cloudflare.F([]cache.CachePurgeParamsBodyCachePurgeSingleFileWithURLAndHeadersFile{
			{URL: cloudflare.F("https://www.sdk.example/a"), Headers: cloudflare.F(map[string]string{"Origin": "x"})}})},
	} {
		var answer *http.Response
		got, err := s.client.Cache.Purge(s.ctx, cache.CachePurgeParams{ZoneID: cloudflare.F(s.zone), Body: body}, option.WithResponseInto(&answer))
		s.must("purge", err)
		exact(s.T, "purge", got)
		if answer.Header.Get("Selvage-Seq") == "" {
			s.Error("purge: no Selvage-Seq header")
		}
	}
	_, err := s.client.Cache.Purge(s.ctx, cache.CachePurgeParams{ZoneID: cloudflare.F(s.zone),
		Body: cache.CachePurgeParamsBodyCachePurgeFlexPurgeByTags{Tags: cloudflare.F([]string{"a,b"})}})
	s.refused("purge by a tag that is none", err, http.StatusBadRequest, 1107, "tags[0]")
}

// cacheSettings are those with paths of their own.
func (s *sdk) cacheSettings() {
	id := cloudflare.F(s.zone)
	reserve, err := s.client.Cache.CacheReserve.Edit(s.ctx, cache.CacheReserveEditParams{ZoneID: id, Value: cloudflare.F(cache.CacheReserveEditParamsValueOn)})
	s.must("cache reserve", err)
	exact(s.T, "cache reserve", reserve)
	now, err := s.client.Cache.CacheReserve.Get(s.ctx, cache.CacheReserveGetParams{ZoneID: id})
	s.must("cache reserve", err)
	exact(s.T, "cache reserve", now)
	if reserve.Value != "on" || now.Value != "on" {
		s.Errorf("cache reserve: set to %s, is %s", reserve.Value, now.Value)
	}
	regional, err := s.client.Cache.RegionalTieredCache.Edit(s.ctx, cache.RegionalTieredCacheEditParams{ZoneID: id, Value: cloudflare.F(cache.RegionalTieredCacheEditParamsValueOn)})
	s.must("regional tiered cache", err)
	exact(s.T, "regional tiered cache", regional)
	smart, err := s.client.Cache.SmartTieredCache.Edit(s.ctx, cache.SmartTieredCacheEditParams{ZoneID: id, Value: cloudflare.F(cache.SmartTieredCacheEditParamsValueOff)})
	s.must("smart tiered cache", err)
	exact(s.T, "smart tiered cache", smart)
	gone, err := s.client.Cache.SmartTieredCache.Delete(s.ctx, cache.SmartTieredCacheDeleteParams{ZoneID: id})
	s.must("delete smart tiered cache", err)
	exact(s.T, "deleted smart tiered cache", gone)
	made, err := s.client.Cache.SmartTieredCache.New(s.ctx, cache.SmartTieredCacheNewParams{ZoneID: id, Value: cloudflare.F(cache.SmartTieredCacheNewParamsValueOn)})
	s.must("new smart tiered cache", err)
	exact(s.T, "smart tiered cache", made)
	tiered, err := s.client.Argo.TieredCaching.Edit(s.ctx, argo.TieredCachingEditParams{ZoneID: id, Value: cloudflare.F(argo.TieredCachingEditParamsValueOff)})
	s.must("tiered caching", err)
	exact(s.T, "tiered caching", tiered)
	normal, err := s.client.URLNormalization.Update(s.ctx, url_normalization.URLNormalizationUpdateParams{ZoneID: id,
		Type: cloudflare.F(url_normalization.URLNormalizationUpdateParamsTypeRfc3986), Scope: cloudflare.F(url_normalization.URLNormalizationUpdateParamsScopeBoth)})
	s.must("url normalization", err)
	exact(s.T, "url normalization", normal)
	kept, err := s.client.URLNormalization.Get(s.ctx, url_normalization.URLNormalizationGetParams{ZoneID: id})
	s.must("url normalization", err)
	if kept.Type != "rfc3986" || kept.Scope != "both" {
		s.Errorf("url normalization: %+v", kept)
	}
	s.variants()
	s.clearReserve()
	s.must("delete url normalization", s.client.URLNormalization.Delete(s.ctx, url_normalization.URLNormalizationDeleteParams{ZoneID: id}))
}

// variants sends all extensions that the SDK knows.
func (s *sdk) variants() {
	id := cloudflare.F(s.zone)
	_, err := s.client.Cache.Variants.Get(s.ctx, cache.VariantGetParams{ZoneID: id})
	s.refused("variants that were never set", err, http.StatusNotFound, 1142, "variants")
	types := cloudflare.F([]string{"image/webp", "image/avif"})
	edited, err := s.client.Cache.Variants.Edit(s.ctx, cache.VariantEditParams{ZoneID: id, Value: cloudflare.F(cache.VariantEditParamsValue{
		AVIF: types, BMP: types, GIF: types, JP2: types, JPEG: types, JPG: types, JPG2: types, PNG: types, TIF: types, TIFF: types, WebP: types})})
	s.must("variants", err)
	exact(s.T, "variants", edited)
	got, err := s.client.Cache.Variants.Get(s.ctx, cache.VariantGetParams{ZoneID: id})
	s.must("variants", err)
	exact(s.T, "variants", got)
	if !slices.Equal(got.Value.JPG2, types.Value) || !slices.Equal(edited.Value.AVIF, types.Value) {
		s.Errorf("variants: set to %+v, are %+v", edited.Value, got.Value)
	}
	_, err = s.client.Cache.Variants.Edit(s.ctx, cache.VariantEditParams{ZoneID: id, Value: cloudflare.F(cache.VariantEditParamsValue{
		PNG: cloudflare.F([]string{"text/html"})})})
	s.refused("a variant that is no image", err, http.StatusBadRequest, 1007, "variants: value.png[0]")
	gone, err := s.client.Cache.Variants.Delete(s.ctx, cache.VariantDeleteParams{ZoneID: id})
	s.must("delete variants", err)
	exact(s.T, "deleted variants", gone)
}

// clearReserve clears the cache reserve, which must be off.
func (s *sdk) clearReserve() {
	id := cloudflare.F(s.zone)
	_, err := s.client.Cache.CacheReserve.Status(s.ctx, cache.CacheReserveStatusParams{ZoneID: id})
	s.refused("a reserve that was never cleared", err, http.StatusNotFound, 1142, "cache_reserve_clear")
	_, err = s.client.Cache.CacheReserve.Clear(s.ctx, cache.CacheReserveClearParams{ZoneID: id, Body: map[string]any{}})
	s.refused("to clear a reserve that is on", err, http.StatusBadRequest, 1007, "cache_reserve")
	_, err = s.client.Cache.CacheReserve.Edit(s.ctx, cache.CacheReserveEditParams{ZoneID: id, Value: cloudflare.F(cache.CacheReserveEditParamsValueOff)})
	s.must("cache reserve off", err)
	run, err := s.client.Cache.CacheReserve.Clear(s.ctx, cache.CacheReserveClearParams{ZoneID: id, Body: map[string]any{}})
	s.must("clear cache reserve", err)
	if run.ID != cache.CacheReserveClearCacheReserveClear || run.State != cache.StateInProgress || run.StartTs.IsZero() {
		s.Errorf("clearing: %+v", run)
	}
	for end := time.Now().Add(30 * time.Second); ; <-time.After(20 * time.Millisecond) {
		state, err := s.client.Cache.CacheReserve.Status(s.ctx, cache.CacheReserveStatusParams{ZoneID: id})
		s.must("clearing", err)
		if state.State == cache.StateCompleted {
			exact(s.T, "cleared", state)
			if !state.StartTs.Equal(run.StartTs) || state.EndTs.Before(state.StartTs) {
				s.Errorf("cleared: %+v", state)
			}
			return
		}
		if time.Now().After(end) {
			s.Fatalf("still clearing: %+v", state)
		}
	}
}

// cacheRules sends everything that a cache rule can say.
func (s *sdk) cacheRules() {
	phase := rulesets.PhaseHTTPRequestCacheSettings
	type p = rulesets.SetCacheSettingsRuleActionParametersParam
	put, err := s.client.Rulesets.Phases.Update(s.ctx, phase, rulesets.PhaseUpdateParams{ZoneID: cloudflare.F(s.zone),
		Rules: cloudflare.F([]rulesets.PhaseUpdateParamsRuleUnion{rulesets.SetCacheSettingsRuleParam{
			Action: cloudflare.F(rulesets.SetCacheSettingsRuleActionSetCacheSettings), Expression: cloudflare.F(`http.host eq "www.sdk.example" and not starts_with(http.request.uri.path, "/api/")`),
			Enabled: cloudflare.F(true), Description: cloudflare.F("all of it"),
			ActionParameters: cloudflare.F(p{
				Cache: cloudflare.F(true),
				EdgeTTL: cloudflare.F(rulesets.SetCacheSettingsRuleActionParametersEdgeTTLParam{
					Mode: cloudflare.F(rulesets.SetCacheSettingsRuleActionParametersEdgeTTLModeOverrideOrigin), Default: cloudflare.F(int64(60)),
					StatusCodeTTL: cloudflare.F([]rulesets.SetCacheSettingsRuleActionParametersEdgeTTLStatusCodeTTLParam{
						{StatusCode: cloudflare.F(int64(404)), Value: cloudflare.F(int64(5))},
						{StatusCodeRange: cloudflare.F(rulesets.SetCacheSettingsRuleActionParametersEdgeTTLStatusCodeTTLStatusCodeRangeParam{From: cloudflare.F(int64(500)), To: cloudflare.F(int64(599))}), Value: cloudflare.F(int64(-1))},
					})}),
				BrowserTTL: cloudflare.F(rulesets.SetCacheSettingsRuleActionParametersBrowserTTLParam{Mode: cloudflare.F(rulesets.SetCacheSettingsRuleActionParametersBrowserTTLModeRespectOrigin)}),
				ServeStale: cloudflare.F(rulesets.SetCacheSettingsRuleActionParametersServeStaleParam{DisableStaleWhileUpdating: cloudflare.F(true)}),
				CacheKey: cloudflare.F(rulesets.SetCacheSettingsRuleActionParametersCacheKeyParam{
					CacheDeceptionArmor: cloudflare.F(true), CacheByDeviceType: cloudflare.F(true), IgnoreQueryStringsOrder: cloudflare.F(true),
					CustomKey: cloudflare.F(rulesets.SetCacheSettingsRuleActionParametersCacheKeyCustomKeyParam{
						QueryString: cloudflare.F(rulesets.SetCacheSettingsRuleActionParametersCacheKeyCustomKeyQueryStringParam{
							Exclude: cloudflare.F(rulesets.SetCacheSettingsRuleActionParametersCacheKeyCustomKeyQueryStringExcludeParam{List: cloudflare.F([]string{"utm_source"})})}),
						Header: cloudflare.F(rulesets.SetCacheSettingsRuleActionParametersCacheKeyCustomKeyHeaderParam{
							Include: cloudflare.F([]string{"X-Variant"}), CheckPresence: cloudflare.F([]string{"X-Beta"}), ExcludeOrigin: cloudflare.F(true),
							Contains: cloudflare.F(map[string][]string{"accept": {"webp"}})}),
						Cookie: cloudflare.F(rulesets.SetCacheSettingsRuleActionParametersCacheKeyCustomKeyCookieParam{Include: cloudflare.F([]string{"currency"}), CheckPresence: cloudflare.F([]string{"session"})}),
						User:   cloudflare.F(rulesets.SetCacheSettingsRuleActionParametersCacheKeyCustomKeyUserParam{DeviceType: cloudflare.F(true), Geo: cloudflare.F(true), Lang: cloudflare.F(true)}),
						Host:   cloudflare.F(rulesets.SetCacheSettingsRuleActionParametersCacheKeyCustomKeyHostParam{Resolved: cloudflare.F(true)}),
					})}),
				CacheReserve:             cloudflare.F(rulesets.SetCacheSettingsRuleActionParametersCacheReserveParam{Eligible: cloudflare.F(true), MinimumFileSize: cloudflare.F(int64(1000))}),
				AdditionalCacheablePorts: cloudflare.F([]int64{8443}), OriginCacheControl: cloudflare.F(true), OriginErrorPagePassthru: cloudflare.F(true),
				ReadTimeout: cloudflare.F(int64(100)), RespectStrongEtags: cloudflare.F(true), StripSetCookie: cloudflare.F(true),
			}),
		}})})
	s.must("put cache rules", err)
	got, err := s.client.Rulesets.Phases.Get(s.ctx, phase, rulesets.PhaseGetParams{ZoneID: cloudflare.F(s.zone)})
	s.must("get cache rules", err)
	if len(got.Rules) != 1 || got.Rules[0].Action != "set_cache_settings" || got.JSON.RawJSON() != put.JSON.RawJSON() {
		s.Errorf("cache rules: put %s, got %s", put.JSON.RawJSON(), got.JSON.RawJSON())
	}
	_, err = s.client.Rulesets.Phases.Update(s.ctx, phase, rulesets.PhaseUpdateParams{ZoneID: cloudflare.F(s.zone),
		Rules: cloudflare.F([]rulesets.PhaseUpdateParamsRuleUnion{rulesets.SetCacheSettingsRuleParam{
			Action: cloudflare.F(rulesets.SetCacheSettingsRuleActionSetCacheSettings), Expression: cloudflare.F("true"),
			ActionParameters: cloudflare.F(p{EdgeTTL: cloudflare.F(rulesets.SetCacheSettingsRuleActionParametersEdgeTTLParam{Mode: cloudflare.F(rulesets.SetCacheSettingsRuleActionParametersEdgeTTLModeOverrideOrigin)})})}})})
	s.refused("cache rule without a TTL", err, http.StatusBadRequest, 20015, "rules[0].action_parameters.edge_ttl.default")
}

func (s *sdk) certificates() {
	chain, key := selfSigned(s.T, "sdk.example", "*.sdk.example")
	made, err := s.client.CustomCertificates.New(s.ctx, custom_certificates.CustomCertificateNewParams{ZoneID: cloudflare.F(s.zone),
		Certificate: cloudflare.F(chain), PrivateKey: cloudflare.F(key), BundleMethod: cloudflare.F(custom_hostnames.BundleMethodForce)})
	s.must("new certificate", err)
	exact(s.T, "certificate", made)
	if made.Status != "active" || len(made.Hosts) != 2 {
		s.Errorf("certificate: %+v", made)
	}
	pager := s.client.CustomCertificates.ListAutoPaging(s.ctx, custom_certificates.CustomCertificateListParams{ZoneID: cloudflare.F(s.zone)})
	n := 0
	for pager.Next() {
		n++
	}
	s.must("certificates", pager.Err())
	if n != 1 {
		s.Errorf("%d certificates", n)
	}
	_, err = s.client.CustomCertificates.Get(s.ctx, made.ID, custom_certificates.CustomCertificateGetParams{ZoneID: cloudflare.F(s.zone)})
	s.must("get certificate", err)
	chain, key = selfSigned(s.T, "sdk.example")
	edited, err := s.client.CustomCertificates.Edit(s.ctx, made.ID, custom_certificates.CustomCertificateEditParams{ZoneID: cloudflare.F(s.zone),
		Certificate: cloudflare.F(chain), PrivateKey: cloudflare.F(key)})
	s.must("edit certificate", err)
	if len(edited.Hosts) != 1 {
		s.Errorf("edited certificate: %+v", edited)
	}
	gone, err := s.client.CustomCertificates.Delete(s.ctx, made.ID, custom_certificates.CustomCertificateDeleteParams{ZoneID: cloudflare.F(s.zone)})
	s.must("delete certificate", err)
	exact(s.T, "deleted certificate", gone)
}

func (s *sdk) rulesets() {
	phase := rulesets.PhaseHTTPRequestOrigin
	_, err := s.client.Rulesets.Phases.Get(s.ctx, phase, rulesets.PhaseGetParams{ZoneID: cloudflare.F(s.zone)})
	s.refused("no ruleset", err, http.StatusNotFound, 10003, "could not find")
	put, err := s.client.Rulesets.Phases.Update(s.ctx, phase, rulesets.PhaseUpdateParams{
		ZoneID: cloudflare.F(s.zone), Name: cloudflare.F("origin"), Description: cloudflare.F("by the SDK"),
		Rules: cloudflare.F([]rulesets.PhaseUpdateParamsRuleUnion{rulesets.RouteRuleParam{
			Action: cloudflare.F(rulesets.RouteRuleActionRoute), Expression: cloudflare.F("true"), Description: cloudflare.F("all"), Enabled: cloudflare.F(true),
			ActionParameters: cloudflare.F(rulesets.RouteRuleActionParametersParam{
				Origin: cloudflare.F(rulesets.RouteRuleActionParametersOriginParam{Host: cloudflare.F("127.0.0.1"), Port: cloudflare.F(int64(9000))})}),
		}}),
	})
	s.must("put ruleset", err)
	got, err := s.client.Rulesets.Phases.Get(s.ctx, phase, rulesets.PhaseGetParams{ZoneID: cloudflare.F(s.zone)})
	s.must("get ruleset", err)
	if put.ID != got.ID || got.Version != "1" || got.Name != "origin" || len(got.Rules) != 1 || got.Rules[0].Expression != "true" || got.JSON.RawJSON() != put.JSON.RawJSON() {
		s.Errorf("ruleset: put %s, got %s", put.JSON.RawJSON(), got.JSON.RawJSON())
	}
	_, err = s.client.Rulesets.Phases.Update(s.ctx, phase, rulesets.PhaseUpdateParams{ZoneID: cloudflare.F(s.zone),
		Rules: cloudflare.F([]rulesets.PhaseUpdateParamsRuleUnion{rulesets.RouteRuleParam{
			Action: cloudflare.F(rulesets.RouteRuleActionRoute), Expression: cloudflare.F("maybe"),
			ActionParameters: cloudflare.F(rulesets.RouteRuleActionParametersParam{HostHeader: cloudflare.F("x.test")})}})})
	s.refused("bad expression", err, http.StatusBadRequest, 20015, "rules[0].expression")
}

func (s *sdk) deleteZone() {
	gone, err := s.client.Zones.Delete(s.ctx, zones.ZoneDeleteParams{ZoneID: cloudflare.F(s.zone)})
	s.must("delete zone", err)
	exact(s.T, "deleted zone", gone)
	page, err := s.client.Zones.List(s.ctx, zones.ZoneListParams{})
	s.must("zones", err)
	if len(page.Result) != 0 {
		s.Errorf("zones after delete: %+v", page.Result)
	}
}
