package v4

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/selvage-edge/selvage/control/api"
	"github.com/selvage-edge/selvage/zone"
)

const (
	recordsPerPage    = 100
	maxRecordsPerPage = 5000
)

func (s *Server) listRecords(ctx context.Context, c *api.Call) (api.Answer, error) {
	q := c.URL.Query()
	pages, err := api.ReadPages(q, recordsPerPage, maxRecordsPerPage)
	if err != nil {
		return api.Answer{}, err
	}
	keep, err := recordFilter(q)
	if err != nil {
		return api.Answer{}, err
	}
	order, err := recordOrder(q)
	if err != nil {
		return api.Answer{}, err
	}
	z, err := s.read(ctx, c)
	if err != nil {
		return api.Answer{}, err
	}
	all := slices.DeleteFunc(z.Records, func(r zone.Record) bool { return !keep(&r) })
	if order != nil {
		slices.SortStableFunc(all, order)
	}
	part, info := api.Cut(pages, all)
	results := make([]recordResult, len(part))
	for i := range part {
		results[i] = newRecordResult(&part[i])
	}
	return api.Answer{Result: results, Info: info}, nil
}

// textTests reads FIELD, FIELD.exact, FIELD.contains, FIELD.startswith and
// FIELD.endswith, compared without regard to case.
func textTests(q url.Values, field string, of func(*zone.Record) string) []func(*zone.Record) bool {
	var tests []func(*zone.Record) bool
	for suffix, compare := range map[string]func(s, v string) bool{
		"": equal, ".exact": equal, ".contains": strings.Contains, ".startswith": strings.HasPrefix, ".endswith": strings.HasSuffix,
	} {
		if v := strings.ToLower(q.Get(field + suffix)); v != "" {
			tests = append(tests, func(r *zone.Record) bool { return compare(strings.ToLower(of(r)), v) })
		}
	}
	return tests
}

func equal(a, b string) bool { return a == b }

// recordFilter reads the list's query. search is apart from match: it must
// always be met.
func recordFilter(q url.Values) (func(*zone.Record) bool, error) {
	match, err := api.OneOf(q, "match", "all", "any")
	if err != nil {
		return nil, err
	}
	tests := slices.Concat(
		textTests(q, "name", func(r *zone.Record) string { return r.Name }),
		textTests(q, "content", func(r *zone.Record) string { return r.Content }),
		textTests(q, "comment", func(r *zone.Record) string { return r.Comment }),
	)
	if kind := strings.ToUpper(q.Get("type")); kind != "" {
		tests = append(tests, func(r *zone.Record) bool { return r.Type == kind })
	}
	if text := q.Get("proxied"); text != "" {
		want, err := strconv.ParseBool(text)
		if err != nil {
			return nil, api.Invalid(api.CodeBadRequest, "proxied", "must be true or false, got %q", limit(text, 40))
		}
		tests = append(tests, func(r *zone.Record) bool { return r.Proxied == want })
	}
	if tag := q.Get("tag"); tag != "" {
		tests = append(tests, func(r *zone.Record) bool { return slices.Contains(r.Tags, tag) })
	}
	search := strings.ToLower(q.Get("search"))
	return func(r *zone.Record) bool {
		if search != "" && !strings.Contains(strings.ToLower(r.Name+"\n"+r.Content+"\n"+r.Comment+"\n"+strings.Join(r.Tags, "\n")), search) {
			return false
		}
		f := filters{any: match == "any"}
		for _, test := range tests {
			f.add(true, test(r))
		}
		return f.pass()
	}, nil
}

// recordOrder returns nil for the order of creation.
func recordOrder(q url.Values) (func(a, b zone.Record) int, error) {
	order, err := api.OneOf(q, "order", "", "type", "name", "content", "ttl", "proxied")
	if err != nil {
		return nil, err
	}
	direction, err := api.OneOf(q, "direction", "asc", "desc")
	if err != nil || order == "" {
		return nil, err
	}
	by := map[string]func(a, b zone.Record) int{
		"type":    func(a, b zone.Record) int { return cmp.Compare(a.Type, b.Type) },
		"name":    func(a, b zone.Record) int { return cmp.Compare(a.Name, b.Name) },
		"content": func(a, b zone.Record) int { return cmp.Compare(a.Content, b.Content) },
		"ttl":     func(a, b zone.Record) int { return cmp.Compare(a.TTL, b.TTL) },
		"proxied": func(a, b zone.Record) int {
			return cmp.Compare(strconv.FormatBool(a.Proxied), strconv.FormatBool(b.Proxied))
		},
	}[order]
	if direction == "desc" {
		return func(a, b zone.Record) int { return by(b, a) }, nil
	}
	return by, nil
}
