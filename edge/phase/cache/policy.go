package cache

import "time"

// policy is what a zone's settings and cache rules decide about one request,
// before anything is looked up. It is made by Compile or memoised by decide,
// shared by all requests for which the same rules match, and never changes.
type policy struct {
	// eligibility says whether the cache is asked at all.
	eligibility eligibility
	// ruled: a rule says that the request is eligible, or the zone holds static
	// files only. An answer without freshness then has defaultTTL, where the
	// plain RFC behaviour would not store it or guess.
	ruled bool

	edge    edgeTTL
	browser browserTTL

	// recipe makes the key; nil = scheme, host, path and query.
	recipe *recipe
	sorted bool // the zone's sort_query_string_for_cache

	strip stripping

	noUpdating  bool // wait for the revalidation where stale-while-revalidate would serve stale
	strongETags bool // the body and a strong ETag stay as the origin sent them: no content coding
	errorsPass  bool // an error answer of the origin's is passed on, no stale copy stands in for it
	armor       bool // store only where Content-Type fits the path's extension
	lax         bool // origin_cache_control off: no-cache and must-revalidate do not hold back stale

	readTimeout time.Duration // between bytes from the origin; 0 = the origin row's own
	reserve     reserveRule
	variants    variants // of images; nil = Accept is a field like others
}

// eligibility says whether the cache is asked, by the status that is told.
type eligibility uint8

const (
	allowed  eligibility = iota // looked up, and stored as the answer allows
	bypassed                    // BYPASS: a rule, or development mode
	dynamic                     // DYNAMIC: the zone's cache level leaves it out
)

// ttlMode says whose freshness counts.
type ttlMode uint8

const (
	ttlRespect  ttlMode = iota // the origin's; what it leaves open by the RFC's heuristics, or defaultTTL where ruled
	ttlOverride                // ours, whatever the origin says
	ttlBypass                  // the origin's; what it leaves open is not stored (edge), or no-store (browser)
)

// edgeTTL is how long edges hold an answer.
type edgeTTL struct {
	mode     ttlMode
	override time.Duration // with ttlOverride, for statuses that byStatus does not have
	byStatus []statusTTL   // goes before mode; the first that has the status counts
}

// statusTTL is the edge TTL of answers whose status is from..to. ttl < 0 means
// not stored at all, 0 stored and revalidated each time.
type statusTTL struct {
	from, to int
	ttl      time.Duration
}

// browserTTL is what browsers are told.
type browserTTL struct {
	mode     ttlMode
	override time.Duration // with ttlOverride; 0 = no-cache, below = no-store
	least    time.Duration // with ttlRespect: browser_cache_ttl, raises a shorter max-age; 0 = off
}

// reserveRule says whether an object may go to the cache reserve.
type reserveRule struct {
	allowed  bool // the zone's cache_reserve is on
	eligible bool
	least    int64 // smallest body, in bytes
}

// stripping says what is taken out of an answer before it is judged.
type stripping struct{ etag, lastModified, setCookie bool }

// of returns the TTL that a rule gives to answers with this status; false
// where the origin's own freshness counts.
func (t *edgeTTL) of(status int) (time.Duration, bool) {
	for i := range t.byStatus {
		if s := &t.byStatus[i]; s.from <= status && status <= s.to {
			return s.ttl, true
		}
	}
	return t.override, t.mode == ttlOverride
}
