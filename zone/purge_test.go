package zone

import (
	"slices"
	"strings"
	"testing"
)

func TestPurgeCheck(t *testing.T) {
	good := []Purge{
		{Everything: true}, {Everything: true, Soft: true},
		{Files: []string{"https://example.com/", "http://WWW.example.com.:8080/a?b=c#d"}},
		{Tags: []string{"a", "Blog post", strings.Repeat("x", MaxPurgeTagBytes)}},
		{Prefixes: []string{"www.example.com/img", "example.com/" + strings.Repeat("a/", MaxPrefixSegments-1)}},
		{Hosts: []string{"example.com", "A.b.EXAMPLE.com"}, Tags: []string{"x"}, Soft: true},
	}
	for _, p := range good {
		if err := p.Check("example.com"); err != nil {
			t.Errorf("%+.200v: %v", p, err)
		}
	}
	bad := []struct {
		p     Purge
		field string
	}{
		{Purge{}, "files"}, {Purge{Soft: true}, "files"},
		{Purge{Everything: true, Tags: []string{"a"}}, "purge_everything"},
		{Purge{Files: []string{"https://example.com/", "/a"}}, "files[1]"},
		{Purge{Files: []string{"https://example.org/"}}, "files[0]"},
		{Purge{Files: []string{"https://notexample.com/"}}, "files[0]"},
		{Purge{Files: []string{"https://u@example.com/"}}, "files[0]"},
		{Purge{Files: []string{"ftp://example.com/"}}, "files[0]"},
		{Purge{Files: []string{"https://example.com/" + strings.Repeat("x", MaxPurgeURLBytes)}}, "files[0]"},
		{Purge{Files: slices.Repeat([]string{"https://example.com/"}, MaxPurgeFiles+1)}, "files"},
		{Purge{Files: slices.Repeat([]string{"https://example.com/" + strings.Repeat("x", 8000)}, 60)}, "files[56]"},
		{Purge{Tags: []string{""}}, "tags[0]"}, {Purge{Tags: []string{"a,b"}}, "tags[0]"}, {Purge{Tags: []string{"a", " b"}}, "tags[1]"},
		{Purge{Tags: []string{"ä"}}, "tags[0]"}, {Purge{Tags: []string{strings.Repeat("x", MaxPurgeTagBytes+1)}}, "tags[0]"},
		{Purge{Tags: slices.Repeat([]string{"x"}, MaxPurgeTags+1)}, "tags"},
		{Purge{Prefixes: []string{"https://example.com/a"}}, "prefixes[0]"}, {Purge{Prefixes: []string{"example.com/a?b"}}, "prefixes[0]"},
		{Purge{Prefixes: []string{"example.com"}}, "prefixes[0]"}, {Purge{Prefixes: []string{"example.com/"}}, "prefixes[0]"},
		{Purge{Prefixes: []string{"example.org/a"}}, "prefixes[0]"}, {Purge{Prefixes: []string{"example.com/a b"}}, "prefixes[0]"},
		{Purge{Prefixes: []string{"example.com/" + strings.Repeat("a/", MaxPrefixSegments)}}, "prefixes[0]"},
		{Purge{Prefixes: slices.Repeat([]string{"example.com/a"}, MaxPurgePrefixes+1)}, "prefixes"},
		{Purge{Hosts: []string{"https://example.com"}}, "hosts[0]"}, {Purge{Hosts: []string{"example.com:80"}}, "hosts[0]"},
		{Purge{Hosts: []string{"example.org"}}, "hosts[0]"}, {Purge{Hosts: []string{""}}, "hosts[0]"},
		{Purge{Hosts: slices.Repeat([]string{"example.com"}, MaxPurgeHosts+1)}, "hosts"},
	}
	for _, c := range bad {
		err := c.p.Check("example.com")
		if err == nil || !strings.HasPrefix(err.Error(), c.field+": ") || len(err.Error()) > 300 {
			t.Errorf("%+.200v: %.400v, want it to name %s", c.p, err, c.field)
		}
	}
}
