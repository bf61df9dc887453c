package v4

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/selvage-edge/selvage/control/api"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/zone"
)

type recordResult struct {
	ID         string          `json:"id"`
	Name       string          `json:"name"`
	Type       string          `json:"type"`
	Content    string          `json:"content"`
	Proxiable  bool            `json:"proxiable"`
	Proxied    bool            `json:"proxied"`
	TTL        uint32          `json:"ttl"`
	Priority   *uint16         `json:"priority,omitempty"`
	Data       json.RawMessage `json:"data,omitempty"`
	Settings   struct{}        `json:"settings"`
	Meta       struct{}        `json:"meta"`
	Comment    *string         `json:"comment"`
	Tags       []string        `json:"tags"`
	CreatedOn  string          `json:"created_on"`
	ModifiedOn string          `json:"modified_on"`
}

func newRecordResult(r *zone.Record) recordResult {
	out := recordResult{
		ID: r.ID, Name: r.Name, Type: r.Type, Content: r.Content, Proxiable: zone.Proxiable(r.Type), Proxied: r.Proxied,
		TTL: r.TTL, Priority: r.Priority, Data: r.Data, Tags: nonNil(r.Tags), CreatedOn: stamp(r.Created), ModifiedOn: stamp(r.Changed),
	}
	if r.Comment != "" {
		out.Comment = &r.Comment
	}
	return out
}

// findRecord returns the place of a record in a zone.
func findRecord(z *store.Zone, id string) (int, error) {
	i := slices.IndexFunc(z.Records, func(r zone.Record) bool { return r.ID == id })
	if i < 0 {
		return 0, api.Missing(api.CodeNoRecord, "dns_record_id: no DNS record of this zone has the identifier %s", limit(id, 64))
	}
	return i, nil
}

func (s *Server) getRecord(ctx context.Context, c *api.Call) (api.Answer, error) {
	id, err := pathID(c, "record")
	if err != nil {
		return api.Answer{}, err
	}
	z, err := s.read(ctx, c)
	if err != nil {
		return api.Answer{}, err
	}
	i, err := findRecord(z, id)
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Result: newRecordResult(&z.Records[i])}, nil
}

func (s *Server) createRecord(ctx context.Context, c *api.Call) (api.Answer, error) {
	var in recordInput
	if err := api.Decode(c, &in); err != nil {
		return api.Answer{}, err
	}
	return s.changeRecord(ctx, c, "dns_record.create", newID(), in.post)
}

func (s *Server) putRecord(ctx context.Context, c *api.Call) (api.Answer, error) {
	return s.rewriteRecord(ctx, c, "dns_record.put", (*recordInput).put)
}

func (s *Server) patchRecord(ctx context.Context, c *api.Call) (api.Answer, error) {
	return s.rewriteRecord(ctx, c, "dns_record.patch", (*recordInput).patch)
}

func (s *Server) rewriteRecord(ctx context.Context, c *api.Call, action string, how func(*recordInput, *store.Zone, string) (*zone.Record, error)) (api.Answer, error) {
	id, err := pathID(c, "record")
	if err != nil {
		return api.Answer{}, err
	}
	var in recordInput
	if err := api.Decode(c, &in); err != nil {
		return api.Answer{}, err
	}
	return s.changeRecord(ctx, c, action, id, func(z *store.Zone, id string) (*zone.Record, error) { return how(&in, z, id) })
}

// changeRecord makes one record's change and answers with the record.
func (s *Server) changeRecord(ctx context.Context, c *api.Call, action, id string, fn func(*store.Zone, string) (*zone.Record, error)) (api.Answer, error) {
	var result recordResult
	seq, err := s.edit(ctx, c, api.CodeDNSValidation, action, id, func(z *store.Zone) error {
		r, err := fn(z, id)
		if err != nil {
			return err
		}
		result = newRecordResult(r)
		return checkSet(z, r.Name)
	})
	return api.Answer{Result: result, Seq: seq}, ownWords(err)
}

func (s *Server) deleteRecord(ctx context.Context, c *api.Call) (api.Answer, error) {
	id, err := pathID(c, "record")
	if err != nil {
		return api.Answer{}, err
	}
	seq, err := s.edit(ctx, c, api.CodeDNSValidation, "dns_record.delete", id, func(z *store.Zone) error {
		_, err := dropRecord(z, id)
		return err
	})
	return api.Answer{Result: reference{ID: id}, Seq: seq}, err
}

func dropRecord(z *store.Zone, id string) (*zone.Record, error) {
	i, err := findRecord(z, id)
	if err != nil {
		return nil, err
	}
	r := z.Records[i]
	z.Records = slices.Delete(z.Records, i, i+1)
	return &r, nil
}

// maxBatch is how many steps one batch may have.
const maxBatch = 5000

type batchInput struct {
	Deletes []recordInput `json:"deletes"`
	Patches []recordInput `json:"patches"`
	Puts    []recordInput `json:"puts"`
	Posts   []recordInput `json:"posts"`
}

type batchResult struct {
	Deletes []recordResult `json:"deletes"`
	Patches []recordResult `json:"patches"`
	Puts    []recordResult `json:"puts"`
	Posts   []recordResult `json:"posts"`
}

// batchRecords runs deletes, patches, puts and posts, in that order, as one
// change: all of it or nothing, one feed entry.
func (s *Server) batchRecords(ctx context.Context, c *api.Call) (api.Answer, error) {
	var in batchInput
	if err := api.Decode(c, &in); err != nil {
		return api.Answer{}, err
	}
	n := len(in.Deletes) + len(in.Patches) + len(in.Puts) + len(in.Posts)
	if n == 0 || n > maxBatch {
		return api.Answer{}, api.Invalid(api.CodeBadRequest, "body", "from 1 to %d deletes, patches, puts and posts in all, got %d", maxBatch, n)
	}
	var out batchResult
	seq, err := s.edit(ctx, c, api.CodeDNSValidation, "dns_record.batch", "", func(z *store.Zone) error {
		return in.run(z, &out)
	})
	return api.Answer{Result: out, Seq: seq}, ownWords(err)
}

func (in *batchInput) run(z *store.Zone, out *batchResult) error {
	touched := map[string]bool{}
	for _, step := range []struct {
		name   string
		inputs []recordInput
		how    func(*recordInput, *store.Zone, string) (*zone.Record, error)
		out    *[]recordResult
	}{
		{"deletes", in.Deletes, func(_ *recordInput, z *store.Zone, id string) (*zone.Record, error) { return dropRecord(z, id) }, &out.Deletes},
		{"patches", in.Patches, (*recordInput).patch, &out.Patches},
		{"puts", in.Puts, (*recordInput).put, &out.Puts},
		{"posts", in.Posts, (*recordInput).post, &out.Posts},
	} {
		*step.out = []recordResult{}
		for i := range step.inputs {
			in := &step.inputs[i]
			if in.ID == nil && step.name != "posts" {
				return at(step.name, i, api.Invalid(api.CodeIdentifier, "id", "is missing"))
			}
			r, err := step.how(in, z, in.id(step.name))
			if err != nil {
				return at(step.name, i, err)
			}
			touched[r.Name] = true
			*step.out = append(*step.out, newRecordResult(r))
		}
	}
	return checkSets(z, touched)
}

// id is the record that a step of a batch is about.
func (in *recordInput) id(step string) string {
	if step == "posts" {
		return newID()
	}
	return *in.ID
}

// checkSet refuses records that cannot stand at one name together.
func checkSet(z *store.Zone, name string) error {
	var here []*zone.Record
	for i := range z.Records {
		if z.Records[i].Name == name {
			here = append(here, &z.Records[i])
		}
	}
	apex := name == z.Name
	for i, a := range here {
		for _, b := range here[:i] {
			if a.Type == b.Type && sameValue(a, b) {
				return conflict(api.CodeRecordSame, "an identical %s record at %s already exists", a.Type, name)
			}
			if a.Type == "CNAME" && b.Type == "CNAME" {
				return conflict(api.CodeRecordExists, "a CNAME record at %s already exists", name)
			}
			if excludes(a, b.Type, apex) || excludes(b, a.Type, apex) {
				return conflict(api.CodeCNAMEConflict, "a %s and a %s record cannot both be at %s", b.Type, a.Type, name)
			}
		}
	}
	return nil
}

// excludes reports whether a is a CNAME that a record of another type cannot
// stand beside. What is answered with addresses (at the apex, or proxied) only
// excludes addresses.
func excludes(a *zone.Record, other string, apex bool) bool {
	if a.Type != "CNAME" {
		return false
	}
	return other == "A" || other == "AAAA" || !apex && !a.Proxied
}

func conflict(code int, format string, args ...any) error {
	p := api.Invalid(code, "name", format, args...)
	p.Status = http.StatusConflict
	return p
}

// sameValue compares what the records answer with.
func sameValue(a, b *zone.Record) bool {
	if strings.TrimSuffix(a.Content, ".") != strings.TrimSuffix(b.Content, ".") || string(a.Data) != string(b.Data) {
		return false
	}
	return a.Priority == b.Priority || a.Priority != nil && b.Priority != nil && *a.Priority == *b.Priority
}

// ownWords puts the field first in what the edges' compile says about a record:
// "dns record NAME TYPE (id …): content: …" and "dns_records: NAME: content: …"
// become "content: … (NAME TYPE)".
func ownWords(err error) error {
	p, ok := errors.AsType[*api.Problem](err)
	if !ok {
		return err
	}
	for _, prefix := range []string{"dns record ", "dns_records: "} {
		rest, ok := strings.CutPrefix(p.Message, prefix)
		if !ok {
			continue
		}
		if head, what, ok := strings.Cut(rest, ": "); ok {
			head, _, _ = strings.Cut(head, " (id")
			return &api.Problem{Status: p.Status, Code: p.Code, Message: what + " (" + head + ")"}
		}
	}
	return err
}
