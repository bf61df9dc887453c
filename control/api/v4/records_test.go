package v4_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"slices"
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

type record struct {
	ID, Name, Type, Content, Comment string
	TTL                              int
	Proxied, Proxiable               bool
	Priority                         *int
	Data                             json.RawMessage
	Tags                             []string
}

func TestRecordNamesAndContents(t *testing.T) {
	p := newPlane(t)
	path := p.zone("rec.test") + "/dns_records"
	for _, tt := range []struct{ body, name, content string }{
		{`{"type":"A","name":"www","content":"192.0.2.1"}`, "www.rec.test", "192.0.2.1"},
		{`{"type":"a","name":"@","content":"192.0.2.1"}`, "rec.test", "192.0.2.1"},
		{`{"type":"A","name":"UP.Rec.Test.","content":"192.0.2.2","ttl":120}`, "up.rec.test", "192.0.2.2"},
		{`{"type":"AAAA","name":"rec.test","content":"2001:DB8::0001"}`, "rec.test", "2001:DB8::0001"},
		{`{"type":"CNAME","name":"*.wild","content":"Target.Example.COM","proxied":true}`, "*.wild.rec.test", "Target.Example.COM"},
		{`{"type":"MX","name":"@","content":"Mail.rec.test","priority":10}`, "rec.test", "Mail.rec.test"},
		{`{"type":"TXT","name":"_t","content":"v=spf1  include:_x ~all; \"q\" \\ é"}`, "_t.rec.test", "v=spf1  include:_x ~all; \"q\" \\ é"},
		{`{"type":"TXT","name":"_t","content":"\"a\" \"b\""}`, "_t.rec.test", `"a" "b"`},
		{`{"type":"NS","name":"sub","content":"ns.other.test."}`, "sub.rec.test", "ns.other.test."},
		{`{"type":"SRV","name":"_sip._tcp","data":{"priority":1,"weight":2,"port":5060,"target":"sip.rec.test"}}`, "_sip._tcp.rec.test", "2 5060 sip.rec.test"},
		{`{"type":"CAA","name":"@","data":{"flags":0,"tag":"issue","value":"ca.test"}}`, "rec.test", `0 issue "ca.test"`},
		{`{"type":"HTTPS","name":"h","data":{"priority":1,"target":".","value":"alpn=\"h2\""}}`, "h.rec.test", `1 . alpn="h2"`},
		{`{"type":"PTR","name":"1","content":"host.rec.test"}`, "1.rec.test", "host.rec.test"},
		{`{"type":"A","name":"bücher","content":"192.0.2.9"}`, "xn--bcher-kva.rec.test", "192.0.2.9"},
	} {
		var r record
		p.ok("POST", path, tt.body, &r)
		if r.Name != tt.name || r.Content != tt.content || len(r.ID) != 32 || r.Tags == nil {
			t.Errorf("%s: got %+v", tt.body, r)
		}
		var again record
		p.ok("GET", path+"/"+r.ID, "", &again)
		if again.Name != r.Name || again.Content != r.Content || again.Type != r.Type {
			t.Errorf("get differs: %+v, %+v", r, again)
		}
	}
}

func TestRecordRefusals(t *testing.T) {
	p := newPlane(t)
	path := p.zone("bad.test") + "/dns_records"
	p.ok("POST", path, `{"type":"A","name":"www","content":"192.0.2.1"}`, nil)
	p.ok("POST", path, `{"type":"CNAME","name":"alias","content":"x.test"}`, nil)
	for _, tt := range []struct {
		body         string
		status, code int
		field        string
	}{
		{`{"name":"a","content":"192.0.2.1"}`, 400, 9005, "type"},
		{`{"type":"LOC","name":"a","content":"x"}`, 400, 9005, "type"},
		{`{"type":"SOA","name":"@","content":"x"}`, 400, 9005, "type"},
		{`{"type":"A","content":"192.0.2.1"}`, 400, 9005, "name"},
		{`{"type":"A","name":5,"content":"192.0.2.1"}`, 400, 6007, "name"},
		{`{"type":"A","name":"a..b","content":"192.0.2.1"}`, 400, 9005, "name"},
		{`{"type":"A","name":"www.other.test.","content":"192.0.2.1"}`, 400, 9005, "name"},
		{`{"type":"A","name":"a b","content":"192.0.2.1"}`, 400, 9005, "name"},
		{`{"type":"A","name":"a"}`, 400, 9005, "content"},
		{`{"type":"A","name":"a","content":"192.0.2"}`, 400, 9005, "content"},
		{`{"type":"A","name":"a","content":"2001:db8::1"}`, 400, 9005, "content"},
		{`{"type":"AAAA","name":"a","content":"192.0.2.1"}`, 400, 9005, "content"},
		{`{"type":"CNAME","name":"a","content":"a b"}`, 400, 9005, "content"},
		{`{"type":"A","name":"a","content":"192.0.2.1","ttl":5}`, 400, 9005, "ttl"},
		{`{"type":"A","name":"a","content":"192.0.2.1","ttl":86401}`, 400, 9005, "ttl"},
		{`{"type":"A","name":"a","content":"192.0.2.1","ttl":60.5}`, 400, 9005, "ttl"},
		{`{"type":"A","name":"a","content":"192.0.2.1","ttl":"60"}`, 400, 6007, "ttl"},
		{`{"type":"TXT","name":"a","content":"x","proxied":true}`, 400, 9005, "proxied"},
		{`{"type":"MX","name":"a","content":"m.test"}`, 400, 9005, "priority"},
		{`{"type":"MX","name":"a","content":"m.test","priority":70000}`, 400, 9005, "priority"},
		{`{"type":"SRV","name":"_a._tcp","data":{"priority":1,"weight":1,"target":"x"}}`, 400, 9005, "data.port"},
		{`{"type":"SRV","name":"_a._tcp","data":{"priority":1,"weight":1,"port":99999,"target":"x"}}`, 400, 9005, "data.port"},
		{`{"type":"CAA","name":"a","data":{"flags":0,"tag":"iss ue","value":"x"}}`, 400, 9005, "data.tag"},
		{`{"type":"HTTPS","name":"a","data":{"priority":1,"target":".","value":"nonsense=1"}}`, 400, 9005, "data"},
		{`{"type":"A","name":"a","content":"192.0.2.1","comment":"` + strings.Repeat("x", 501) + `"}`, 400, 9005, "comment"},
		{`{"type":"A","name":"a","content":"192.0.2.1","tags":[""]}`, 400, 9005, "tags"},
		{`{"type":"A","name":"a","content":"192.0.2.1","data":5}`, 400, 9005, "data"},
		{`{"type":"A","name":"a","content":"192.0.2.1","data":[]}`, 400, 9005, "data"},
		{`{"type":"A","name":"www","content":"192.0.2.1"}`, 409, 81058, "name"},
		{`{"type":"CNAME","name":"www","content":"x.test"}`, 409, 81054, "name"},
		{`{"type":"A","name":"alias","content":"192.0.2.1"}`, 409, 81054, "name"},
		{`{"type":"TXT","name":"alias","content":"x"}`, 409, 81054, "name"},
		{`{"type":"CNAME","name":"alias","content":"y.test"}`, 409, 81053, "name"},
	} {
		p.bad("POST", path, tt.body, tt.status, tt.code, tt.field)
	}
	none := strings.Repeat("0", 32)
	for _, method := range []string{"GET", "PUT", "PATCH", "DELETE"} {
		p.bad(method, path+"/"+none, `{"type":"A","name":"a","content":"192.0.2.1"}`, 404, 81044, "dns_record_id")
		p.bad(method, path+"/zz", `{"type":"A"}`, 400, 7003, "record_id")
	}
}

func TestRecordUpdates(t *testing.T) {
	p := newPlane(t)
	path := p.zone("up.test") + "/dns_records"
	var r record
	p.ok("POST", path, `{"type":"A","name":"www","content":"192.0.2.1","ttl":300,"comment":"keep","tags":["a:b"]}`, &r)
	one := path + "/" + r.ID
	p.ok("PATCH", one, `{"content":"192.0.2.2"}`, &r)
	if r.Content != "192.0.2.2" || r.TTL != 300 || r.Comment != "keep" || len(r.Tags) != 1 {
		t.Errorf("patch: %+v", r)
	}
	r = record{}
	p.ok("PUT", one, `{"type":"A","name":"www","content":"192.0.2.3","proxied":true}`, &r)
	if r.Content != "192.0.2.3" || r.TTL != 1 || r.Comment != "" || len(r.Tags) != 0 || !r.Proxied {
		t.Errorf("put: %+v", r)
	}
	p.ok("PATCH", one, `{"name":"new"}`, &r)
	if r.Name != "new.up.test" {
		t.Errorf("rename: %+v", r)
	}
	p.bad("PATCH", one, `{"content":"x"}`, 400, 9005, "content")
	if rows := p.keys(); !slices.Equal(names(rows, "dns/"), []string{"dns/new.up.test"}) {
		t.Errorf("feed state after rename: %v", names(rows, "dns/"))
	}
	p.ok("DELETE", one, "", nil)
	if rows := p.keys(); len(names(rows, "dns/")) != 0 {
		t.Errorf("feed state after delete: %v", names(rows, "dns/"))
	}
}

// keys is the feed's current state.
func (p *plane) keys() map[string]string {
	p.t.Helper()
	m := map[string]string{}
	if err := p.publish.Snapshot(p.t.Context(), "", func(feed.Cursor) error { return nil }, func(key string, value []byte, _ uint64) error {
		m[key] = string(value)
		return nil
	}); err != nil {
		p.t.Fatal(err)
	}
	return m
}

// names lists the keys of zones that have a part, without the zone.
func names(keys map[string]string, part string) []string {
	var all []string
	for k := range keys {
		if _, rest, ok := strings.Cut(k, "/"+part); ok && strings.HasPrefix(k, zone.PrefixZone) {
			all = append(all, part+rest)
		}
	}
	slices.Sort(all)
	return all
}

func TestRecordList(t *testing.T) {
	p := newPlane(t)
	path := p.zone("list.test") + "/dns_records"
	for i := range 5 {
		p.ok("POST", path, fmt.Sprintf(`{"type":"A","name":"h%d","content":"192.0.2.%d","proxied":%v,"comment":"c%d"}`, i, 10-i, i%2 == 0, i), nil)
	}
	p.ok("POST", path, `{"type":"TXT","name":"h0","content":"Text","tags":["x:y"]}`, nil)
	for _, tt := range []struct{ query, want string }{
		{"", "h0 h1 h2 h3 h4 h0"},
		{"?per_page=4&page=2", "h4 h0"},
		{"?page=2", ""},
		{"?per_page=5000000", "h0 h1 h2 h3 h4 h0"},
		{"?name=H3.list.test", "h3"},
		{"?name.exact=h3.list.test", "h3"},
		{"?name=h3", ""},
		{"?name.contains=3", "h3"},
		{"?name.startswith=h0", "h0 h0"},
		{"?type=TXT", "h0"},
		{"?type=A&proxied=false", "h1 h3"},
		{"?content=text", "h0"},
		{"?content.endswith=.10", "h0"},
		{"?comment.exact=c4", "h4"},
		{"?tag=x:y", "h0"},
		{"?match=any&type=TXT&name=h3.list.test", "h3 h0"},
		{"?search=c2", "h2"},
		{"?order=content&type=A", "h0 h4 h3 h2 h1"},
		{"?order=name&direction=desc&type=A", "h4 h3 h2 h1 h0"},
		{"?order=type&direction=desc&per_page=1", "h0"},
	} {
		var all []record
		a := p.ok("GET", path+tt.query, "", &all)
		var got []string
		for _, r := range all {
			got = append(got, strings.TrimSuffix(r.Name, ".list.test"))
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: got %q, want %q", tt.query, got, tt.want)
		}
		if tt.want == "" && string(a.Result) != "[]" {
			t.Errorf("%s: result %s, want []", tt.query, a.Result)
		}
	}
	for _, q := range []string{"proxied=x", "order=size", "direction=x", "match=x", "page=x", "per_page=5000001"} {
		name, _, _ := strings.Cut(q, "=")
		p.bad("GET", path+"?"+q, "", 400, 6003, name)
	}
}

func TestBatchIsAllOrNothing(t *testing.T) {
	p := newPlane(t)
	path := p.zone("batch.test") + "/dns_records"
	ids := map[string]string{}
	for _, name := range []string{"a", "b", "c"} {
		var r record
		p.ok("POST", path, `{"type":"A","name":"`+name+`","content":"192.0.2.1"}`, &r)
		ids[name] = r.ID
	}
	before := p.keys()
	batch := func(post string) string {
		return fmt.Sprintf(`{"deletes":[{"id":%q}],"patches":[{"id":%q,"content":"192.0.2.7"}],
			"puts":[{"id":%q,"type":"A","name":"a","content":"192.0.2.8"}],"posts":[%s]}`, ids["a"], ids["b"], ids["c"], post)
	}
	p.bad("POST", path+"/batch", batch(`{"type":"A","name":"d","content":"x"}`), 400, 9005, "content")
	p.bad("POST", path+"/batch", batch(`{"type":"A","name":"d"}`), 400, 9005, "posts[0].content")
	p.bad("POST", path+"/batch", batch(`{"type":"CNAME","name":"a","content":"x.test"}`), 409, 81054, "name")
	p.bad("POST", path+"/batch", `{"deletes":[{"id":"`+strings.Repeat("0", 32)+`"}]}`, 404, 81044, "deletes[0].dns_record_id")
	p.bad("POST", path+"/batch", `{"deletes":[{}]}`, 400, 7003, "deletes[0].id")
	p.bad("POST", path+"/batch", `{"puts":[{"type":"A","name":"a","content":"192.0.2.8"}]}`, 400, 7003, "puts[0].id")
	p.bad("POST", path+"/batch", `{}`, 400, 6003, "body")
	if after := p.keys(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Error("a refused batch changed the feed's state")
	}
	head, _ := p.publish.Head()
	var out struct{ Deletes, Patches, Puts, Posts []record }
	p.ok("POST", path+"/batch", batch(`{"type":"A","name":"d","content":"192.0.2.9"}`), &out)
	if len(out.Deletes) != 1 || out.Patches[0].Content != "192.0.2.7" || out.Puts[0].Name != "a.batch.test" || out.Posts[0].Name != "d.batch.test" {
		t.Errorf("batch: %+v", out)
	}
	entries, err := p.publish.Read(t.Context(), head, 1<<20)
	if err != nil || len(entries) != 1 {
		t.Fatalf("a batch made %d entries, %v", len(entries), err)
	}
	ops := map[string]feed.Op{}
	for _, c := range entries[0].Changes {
		_, name, _ := strings.Cut(c.Key, "/dns/")
		ops[name] = c.Op
	}
	want := map[string]feed.Op{"a.batch.test": feed.Set, "b.batch.test": feed.Set, "c.batch.test": feed.Delete, "d.batch.test": feed.Set}
	if fmt.Sprint(ops) != fmt.Sprint(want) {
		t.Errorf("entry: %v, want %v", ops, want)
	}
}

func upload(t *testing.T, fields map[string]string) (contentType, body string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for name, value := range fields {
		if err := w.WriteField(name, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), b.String()
}

const zoneFile = `$ORIGIN imp.test.
$TTL 3600
@	IN SOA ns1.old.test. admin.old.test. 1 2 3 4 5
@	IN NS ns1.old.test.
@	IN A 192.0.2.1
www	300 IN CNAME @
@	IN MX 10 mail
mail	IN AAAA 2001:db8::1
@	IN TXT "v=spf1 -all" "second; part"
_sip._tcp IN SRV 1 2 5060 sip.imp.test.
@	IN CAA 0 issue "ca.test"
h	IN HTTPS 1 . alpn="h2,h3"
sub	IN NS ns.other.test.
1.2	IN PTR host.imp.test.
*.w	IN A 192.0.2.2
`

func TestImportAndExportRoundTrip(t *testing.T) {
	p := newPlane(t)
	path := p.zone("imp.test") + "/dns_records"
	ct, body := upload(t, map[string]string{"file": zoneFile, "proxied": "true"})
	a := p.raw("POST", path+"/import", ct, secret, body)
	var got struct{ RecsAdded, Parsed int }
	if err := json.Unmarshal(bytes.NewBuffer(bytes.ReplaceAll(bytes.ReplaceAll(a.Result, []byte("recs_added"), []byte("RecsAdded")), []byte("total_records_parsed"), []byte("Parsed"))).Bytes(), &got); err != nil || got.RecsAdded != 11 || got.Parsed != 13 || a.Seq == "" {
		t.Fatalf("import: %d %s %v", a.Status, a.Body, err)
	}
	var all []record
	p.ok("GET", path+"?per_page=100", "", &all)
	if len(all) != 11 {
		t.Fatalf("%d records after import", len(all))
	}
	for _, r := range all {
		if r.Proxied != r.Proxiable {
			t.Errorf("%s %s: proxied %v", r.Name, r.Type, r.Proxied)
		}
	}
	export := p.raw("GET", path+"/export", "", secret, "")
	if !strings.Contains(string(export.Body), "cf_tags=cf-proxied:true") {
		t.Errorf("export:\n%s", export.Body)
	}
	p2 := newPlane(t)
	path2 := p2.zone("imp.test") + "/dns_records"
	ct, body = upload(t, map[string]string{"file": string(export.Body), "proxied": "true"})
	if a := p2.raw("POST", path2+"/import", ct, secret, body); a.Status != 200 {
		t.Fatalf("import of export: %s\n%s", a.Body, export.Body)
	}
	again := p2.raw("GET", path2+"/export", "", secret, "")
	cut := func(b []byte) string { _, rest, _ := strings.Cut(string(b), "$ORIGIN"); return rest }
	if cut(again.Body) != cut(export.Body) {
		t.Errorf("export after round trip:\n%s\nwant\n%s", again.Body, export.Body)
	}
}

func TestImportRefusals(t *testing.T) {
	p := newPlane(t)
	path := p.zone("imp.test") + "/dns_records"
	for _, tt := range []struct {
		name         string
		fields       map[string]string
		status, code int
		field        string
	}{
		{"no file", map[string]string{"proxied": "true"}, 400, 6007, "file"},
		{"proxied", map[string]string{"file": zoneFile, "proxied": "maybe"}, 400, 9005, "proxied"},
		{"empty", map[string]string{"file": "; nothing\n"}, 400, 9005, "file"},
		{"syntax", map[string]string{"file": "a IN A 192.0.2.1\nb IN A nonsense\n"}, 400, 9005, "file"},
		{"include", map[string]string{"file": "$INCLUDE /etc/passwd\n"}, 400, 9005, "file"},
		{"type", map[string]string{"file": "a IN A 192.0.2.1\nb IN LOC 51 30 12.748 N 0 7 39.612 W 0m\n"}, 400, 9005, "file[1].type"},
		{"other zone", map[string]string{"file": "a.other.test. IN A 192.0.2.1\n"}, 400, 9005, "file[0].name"},
		{"conflict", map[string]string{"file": "a IN A 192.0.2.1\na IN CNAME x.test.\n"}, 409, 81054, "name"},
		{"class", map[string]string{"file": "a CH A 192.0.2.1\n"}, 400, 9005, "file[0].class"},
		{"too large", map[string]string{"file": strings.Repeat("; comment\n", 600_000)}, 413, 10026, "body"},
	} {
		ct, body := upload(t, tt.fields)
		a := p.raw("POST", path+"/import", ct, secret, body)
		if a.Status != tt.status || len(a.Errors) != 1 || a.Errors[0].Code != tt.code || !strings.HasPrefix(a.message(), tt.field) {
			t.Errorf("%s: got %d %s, want %d code %d %q", tt.name, a.Status, a.Body, tt.status, tt.code, tt.field)
		}
	}
	p.bad("POST", path+"/import", `{"file":"x"}`, 400, 6007, "file")
	var all []record
	p.ok("GET", path, "", &all)
	if len(all) != 0 {
		t.Errorf("refused imports left %d records", len(all))
	}
}
