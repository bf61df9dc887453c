package zone

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Purge asks for objects of one zone to be dropped, or with Soft to be taken
// for stale: everything, or what any of the lists names.
type Purge struct {
	Everything bool `json:"purge_everything,omitempty"`
	// Files are absolute http(s) URLs; all variants and both schemes of each go.
	Files []string `json:"files,omitempty"`
	// Tags are values of the Cache-Tag field, compared without regard to case.
	Tags []string `json:"tags,omitempty"`
	// Prefixes are a host and the beginning of a path, whole segments, without
	// a scheme: www.example.com/img covers /img, /img/a.png and /img?x=1, not
	// /images.
	Prefixes []string `json:"prefixes,omitempty"`
	// Hosts are names without scheme or port.
	Hosts []string `json:"hosts,omitempty"`
	// Soft keeps what is named, expired: it is revalidated, and may be served
	// stale where stale-while-revalidate, stale-if-error or Always Online say so.
	Soft bool `json:"soft,omitempty"`
	// Reserve names what the cache reserve has of the zone, and nothing else: what
	// memory and disks have stays.
	Reserve bool `json:"reserve,omitempty"`
}

// Limits on one purge. The counts are those that Cloudflare documents.
const (
	MaxPurgeFiles     = 100
	MaxPurgeTags      = 100
	MaxPurgePrefixes  = 100
	MaxPurgeHosts     = 100
	MaxPurgeURLBytes  = 8192    // of one file or prefix
	MaxPurgeTagBytes  = 1024    // of one tag
	MaxPrefixSegments = 31      // path separators in one prefix
	MaxPurgeBytes     = 450_000 // of all lists together, so that it fits into a feed value
)

// Empty reports a purge that names nothing.
func (p *Purge) Empty() bool {
	return !p.Everything && !p.Reserve && len(p.Files)+len(p.Tags)+len(p.Prefixes)+len(p.Hosts) == 0
}

// Check refuses a purge that names nothing, names everything and something
// besides, is over a limit, or reaches outside the zone. The error begins with
// the path of the field.
func (p *Purge) Check(zoneName string) error {
	switch {
	case p.Empty():
		return errors.New("files: send files, tags, prefixes or hosts, or purge_everything: true")
	case p.Everything && (p.Reserve || len(p.Files)+len(p.Tags)+len(p.Prefixes)+len(p.Hosts) > 0):
		return errors.New("purge_everything: excludes files, tags, prefixes and hosts")
	case p.Reserve && (p.Soft || len(p.Files)+len(p.Tags)+len(p.Prefixes)+len(p.Hosts) > 0):
		return errors.New("reserve: excludes all else")
	}
	total := 0
	for _, list := range []struct {
		field string
		items []string
		most  int
		check func(zoneName, item string) error
	}{
		{"files", p.Files, MaxPurgeFiles, checkPurgeFile},
		{"tags", p.Tags, MaxPurgeTags, checkPurgeTag},
		{"prefixes", p.Prefixes, MaxPurgePrefixes, checkPurgePrefix},
		{"hosts", p.Hosts, MaxPurgeHosts, checkPurgeHost},
	} {
		if len(list.items) > list.most {
			return fmt.Errorf("%s: at most %d in one purge, got %d", list.field, list.most, len(list.items))
		}
		for i, item := range list.items {
			if err := list.check(zoneName, item); err != nil {
				return fmt.Errorf("%s[%d]: %w", list.field, i, err)
			}
			if total += len(item); total > MaxPurgeBytes {
				return fmt.Errorf("%s[%d]: at most %d bytes in one purge; send more than one", list.field, i, MaxPurgeBytes)
			}
		}
	}
	return nil
}

func checkPurgeFile(zoneName, file string) error {
	if len(file) > MaxPurgeURLBytes {
		return fmt.Errorf("longer than %d bytes", MaxPurgeURLBytes)
	}
	u, err := url.Parse(file)
	if err != nil {
		return fmt.Errorf("%.80q is not a URL", file)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return fmt.Errorf("%.80q must be an absolute http or https URL", file)
	}
	if u.User != nil {
		return errors.New("must have no user name, no cached page is kept under one")
	}
	return hostInZone(zoneName, u.Hostname())
}

// checkPurgeTag takes what a Cache-Tag field can hold: printable ASCII without
// the comma that separates tags, and no blank at either end.
func checkPurgeTag(_, tag string) error {
	if tag == "" || len(tag) > MaxPurgeTagBytes {
		return fmt.Errorf("a tag has 1 to %d bytes, got %d", MaxPurgeTagBytes, len(tag))
	}
	for i := range len(tag) {
		if c := tag[i]; c < ' ' || c > '~' || c == ',' {
			return fmt.Errorf("%.80q must be printable ASCII without a comma", tag)
		}
	}
	if tag[0] == ' ' || tag[len(tag)-1] == ' ' {
		return fmt.Errorf("%.80q begins or ends with a blank", tag)
	}
	return nil
}

func checkPurgePrefix(zoneName, prefix string) error {
	if len(prefix) > MaxPurgeURLBytes {
		return fmt.Errorf("longer than %d bytes", MaxPurgeURLBytes)
	}
	if strings.Contains(prefix, "://") {
		return fmt.Errorf("%.80q must not have a scheme; a prefix such as www.example.com/img covers both", prefix)
	}
	if i := strings.IndexAny(prefix, "?#"); i >= 0 {
		return fmt.Errorf("%.80q must end before %q: a prefix is a host and the beginning of a path", prefix, prefix[i])
	}
	for i := range len(prefix) {
		if prefix[i] <= ' ' || prefix[i] == 0x7f {
			return fmt.Errorf("%.80q has a blank or a control character", prefix)
		}
	}
	host, path, found := strings.Cut(prefix, "/")
	if !found || path == "" {
		return fmt.Errorf("%.80q has no path; purge the host by hosts", prefix)
	}
	if n := strings.Count(prefix, "/"); n > MaxPrefixSegments {
		return fmt.Errorf("at most %d path separators, got %d", MaxPrefixSegments, n)
	}
	return hostInZone(zoneName, host)
}

func checkPurgeHost(zoneName, host string) error {
	if strings.ContainsAny(host, "/:?#@ ") {
		return fmt.Errorf("%.80q must be a name alone, without scheme, port and path", host)
	}
	return hostInZone(zoneName, host)
}

func hostInZone(zoneName, host string) error {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host != zoneName && !strings.HasSuffix(host, "."+zoneName) {
		return fmt.Errorf("host %.80q is not in the zone %s", host, zoneName)
	}
	return nil
}
