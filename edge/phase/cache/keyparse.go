package cache

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/selvage-edge/selvage/internal/strictjson"
)

// Limits on one custom key.
const (
	maxKeyParameters = 100
	maxKeyHeaders    = 50
	maxKeyCookies    = 50
	maxKeyValues     = 10 // of one header under contains
	maxKeyText       = 128
)

// cacheKey reads cache_key: the recipe of the key, and the armor.
func (d *decoder) cacheKey(raw json.RawMessage, path string) func(*policy) {
	var armor, armorGiven, ordered, orderGiven bool
	c := &recipe{}
	d.Object(raw, path, func(name, path string, v json.RawMessage) {
		switch name {
		case "cache_deception_armor":
			armor, armorGiven = d.Bool(v, path), true
		case "ignore_query_strings_order":
			ordered, orderGiven = !d.Bool(v, path), true
		case "cache_by_device_type":
			c.device = d.Bool(v, path) || c.device
		case "custom_key":
			d.customKey(v, path, c)
		default:
			d.Unknown(path)
		}
	})
	return func(p *policy) {
		made := *c
		made.sorted = p.sorted
		if orderGiven {
			made.sorted = !ordered
		}
		if armorGiven {
			p.armor = armor
		}
		p.recipe = made.name()
	}
}

func (d *decoder) customKey(raw json.RawMessage, path string, c *recipe) {
	d.Object(raw, path, func(name, path string, v json.RawMessage) {
		switch name {
		case "query_string":
			d.keyQuery(v, path, c)
		case "header":
			d.keyHeader(v, path, c)
		case "cookie":
			d.Object(v, path, func(name, path string, v json.RawMessage) {
				switch name {
				case "include":
					c.cookies = d.names(v, path, maxKeyCookies, checkCookie, false)
				case "check_presence":
					c.cookiesPresent = d.names(v, path, maxKeyCookies, checkCookie, false)
				default:
					d.Unknown(path)
				}
			})
		case "user":
			d.Object(v, path, func(name, path string, v json.RawMessage) {
				switch on := d.Bool(v, path); name {
				case "device_type":
					c.device = on || c.device
				case "geo":
					c.country = on
				case "lang":
					c.language = on
				default:
					d.Unknown(path)
				}
			})
		case "host":
			d.Object(v, path, func(name, path string, v json.RawMessage) {
				if name != "resolved" {
					d.Unknown(path)
					return
				}
				c.resolved = d.Bool(v, path)
			})
		default:
			d.Unknown(path)
		}
	})
}

// keyQuery reads include or exclude, each "*", a list, ["*"] or an object with
// all or list: the API has known all of these forms.
func (d *decoder) keyQuery(raw json.RawMessage, path string, c *recipe) {
	n := 0
	d.Object(raw, path, func(name, path string, v json.RawMessage) {
		n++
		all, list := d.parameterSet(v, path)
		switch {
		case name != "include" && name != "exclude":
			d.Unknown(path)
		case name == "include" && all:
			c.query = queryAll
		case name == "exclude" && all:
			c.query = queryNone
		case name == "include":
			c.query, c.parameters = queryOnly, list
		default:
			c.query, c.parameters = queryExcept, list
		}
	})
	if d.Err == nil && n != 1 {
		d.Fail(path, "needs include or exclude, one of the two")
	}
}

func (d *decoder) parameterSet(raw json.RawMessage, path string) (all bool, list []string) {
	if d.Err != nil {
		return false, nil
	}
	var star string
	if json.Unmarshal(raw, &star) == nil && star == "*" {
		return true, nil
	}
	if trimmed := strings.TrimLeft(string(raw), " \t\r\n"); strings.HasPrefix(trimmed, "[") {
		list = d.parameterNames(raw, path)
		if len(list) == 1 && list[0] == "*" {
			return true, nil
		}
		return false, list
	}
	listed := false
	d.Object(raw, path, func(name, path string, v json.RawMessage) {
		switch name {
		case "all":
			all = d.Bool(v, path)
		case "list":
			list, listed = d.parameterNames(v, path), true
		default:
			d.Unknown(path)
		}
	})
	if d.Err == nil && all == (listed && len(list) > 0) {
		d.Fail(path, "needs all: true or a list, one of the two")
	}
	return all, list
}

// parameterNames reads names of query parameters and brings them into the form
// that the key has them in.
func (d *decoder) parameterNames(raw json.RawMessage, path string) []string {
	list := d.Texts(raw, path, maxKeyParameters)
	for i, name := range list {
		if name == "" || len(name) > maxKeyText || strings.ContainsAny(name, "&=#\x00\r\n") {
			d.Fail(path, "%q is no name of a query parameter", strictjson.Short([]byte(name)))
			return nil
		}
		list[i] = string(appendNormal(nil, escape(name)))
	}
	if d.Err == nil && len(list) == 0 {
		d.Fail(path, "must name at least one parameter")
	}
	return list
}

// escape percent-encodes what cannot stand in a query as it is.
func escape(name string) []byte {
	const hex = "0123456789ABCDEF"
	var b []byte
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '<' || c == '>' {
			b = append(b, '%', hex[c>>4], hex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return b
}

func (d *decoder) keyHeader(raw json.RawMessage, path string, c *recipe) {
	c.originKeyed = true
	d.Object(raw, path, func(name, path string, v json.RawMessage) {
		switch name {
		case "include":
			c.headers = d.names(v, path, maxKeyHeaders, checkKeyHeader, true)
		case "check_presence":
			c.headersPresent = d.names(v, path, maxKeyHeaders, checkHeader, true)
		case "exclude_origin":
			c.originKeyed = !d.Bool(v, path)
		case "contains":
			d.keyContains(v, path, c)
		default:
			d.Unknown(path)
		}
	})
}

func (d *decoder) keyContains(raw json.RawMessage, path string, c *recipe) {
	d.Object(raw, path, func(name, path string, v json.RawMessage) {
		name = strings.ToLower(name)
		if why := checkHeader(name); why != "" {
			d.Fail(path, "%s", why)
			return
		}
		values := d.Texts(v, path, maxKeyValues)
		for i, value := range values {
			if value == "" || len(value) > maxKeyText || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
				d.Fail(path, "a value has 1 to %d printable ASCII characters", maxKeyText)
			}
			values[i] = strings.ToLower(value)
		}
		if d.Err == nil && len(values) == 0 {
			d.Fail(path, "must name at least one value")
		}
		if len(c.contains) == maxKeyHeaders {
			d.Fail(path, "at most %d headers are allowed", maxKeyHeaders)
		}
		c.contains = append(c.contains, contains{name, values})
	})
	slices.SortFunc(c.contains, func(a, b contains) int { return strings.Compare(a.name, b.name) })
}

// names reads a list of names that check accepts, sorted, so that the order
// they were sent in does not make another key; in lower case where fold is set.
func (d *decoder) names(raw json.RawMessage, path string, limit int, check func(string) string, fold bool) []string {
	list := d.Texts(raw, path, limit)
	for i, name := range list {
		if fold {
			list[i] = strings.ToLower(name)
		}
		if why := check(list[i]); d.Err == nil && why != "" {
			d.Fail(path, "%q %s", strictjson.Short([]byte(name)), why)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func checkCookie(name string) string {
	switch {
	case !isToken(name):
		return "is no name of a cookie"
	case strings.HasPrefix(name, "__cf"):
		return "is a cookie of the edge's own"
	}
	return ""
}

func checkHeader(name string) string {
	if !isToken(name) {
		return "is no name of a header"
	}
	return ""
}

// checkKeyHeader refuses headers whose whole value would make a key for each
// visitor, or that mean something to caches and connections themselves.
func checkKeyHeader(name string) string {
	switch name {
	case "accept", "accept-charset", "accept-encoding", "accept-datetime", "accept-language", "referer", "user-agent":
		return "has too many values; name some of them under contains"
	case "connection", "content-length", "cache-control", "if-match", "if-modified-since", "if-none-match", "if-unmodified-since", "if-range", "range", "upgrade", "te", "transfer-encoding":
		return "is the protocol's own"
	case "cookie", "host":
		return "has a part of the key of its own"
	case "origin":
		return "is in the key already unless exclude_origin is set"
	}
	if strings.HasPrefix(name, "cf-") || strings.HasPrefix(name, "x-forwarded-") || strings.HasPrefix(name, "selvage-") {
		return "is not the visitor's to send"
	}
	return checkHeader(name)
}

func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != "" && len(s) <= maxKeyText
}
