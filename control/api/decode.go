package api

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits on bodies, in bytes.
const (
	MaxBody   = 1 << 20
	MaxUpload = 5 << 20 // a zone file
)

// Read returns the whole body, of at most MaxBody bytes.
func Read(c *Call) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(c.Body, MaxBody+1))
	if err != nil {
		return nil, fmt.Errorf("read body: %w", err)
	}
	if len(b) > MaxBody {
		return nil, &Problem{Status: 413, Code: CodeTooLarge, Message: fmt.Sprintf("body: more than %d bytes", MaxBody)}
	}
	return b, nil
}

// Decode reads the body as one JSON value into v. Fields that v does not have
// are passed over, as Cloudflare's API does: tools send more than is asked.
// Fields of a wrong type are refused by name.
func Decode(c *Call, v any) error {
	b, err := Read(c)
	if err != nil {
		return err
	}
	return Unmarshal(b, v)
}

// DecodeAll is Decode that refuses by name a field which v does not have, for calls
// of our own: a limit that is misspelt must not count as none.
func DecodeAll(c *Call, v any) error {
	b, err := Read(c)
	if err != nil {
		return err
	}
	if string(bytes.TrimSpace(b)) == "null" {
		return Invalid(CodeBody, "body", "must be an object, got null")
	}
	if err := Unmarshal(b, v); err != nil {
		return err
	}
	again := json.NewDecoder(bytes.NewReader(b))
	again.DisallowUnknownFields()
	if err := again.Decode(v); err != nil { // no other error is left
		field := strings.Trim(strings.TrimPrefix(err.Error(), "json: unknown field "), `"`)
		return Invalid(CodeBody, fmt.Sprintf("%.64s", field), "is no field of this call")
	}
	return nil
}

// Unmarshal is Decode on bytes already read.
func Unmarshal(b []byte, v any) error {
	if len(strings.TrimSpace(string(b))) == 0 {
		return Invalid(CodeBody, "body", "a JSON object is expected, nothing was sent")
	}
	if !utf8.Valid(b) {
		return Invalid(CodeBody, "body", "not UTF-8")
	}
	err := json.Unmarshal(b, v)
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field := t.Field
		if field == "" {
			field = "body"
		}
		return Invalid(CodeBody, field, "must be %s, got %s", typeName(t.Type), t.Value)
	}
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		return Invalid(CodeBody, "body", "not JSON: %s at byte %d", s, s.Offset)
	}
	if err != nil {
		return Invalid(CodeBody, "body", "not the JSON that is expected: %s", err)
	}
	return nil
}

func typeName(of reflect.Type) string {
	t := strings.TrimPrefix(of.String(), "*")
	switch {
	case reflect.PointerTo(of).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return "a string"
	case strings.HasPrefix(t, "[]"):
		return "a list"
	case t == "string":
		return "a string"
	case t == "bool":
		return "true or false"
	case strings.HasPrefix(t, "uint"), strings.HasPrefix(t, "int"):
		return "a whole number in range (" + t + ")"
	case strings.HasPrefix(t, "float"):
		return "a number"
	default:
		return "an object"
	}
}

// Pages is one page of a list that was asked for.
type Pages struct{ Page, Per int }

// ReadPages reads page and per_page. What is over top is cut to it: tools ask
// for millions.
func ReadPages(q url.Values, normal, top int) (Pages, error) {
	page, err := whole(q, "page", 1, math.MaxInt32)
	if err != nil {
		return Pages{}, err
	}
	per, err := whole(q, "per_page", normal, 5_000_000)
	if err != nil {
		return Pages{}, err
	}
	return Pages{page, min(per, top)}, nil
}

func whole(q url.Values, name string, normal, top int) (int, error) {
	text := q.Get(name)
	if text == "" {
		return normal, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > top {
		return 0, Invalid(CodeBadRequest, name, "must be a whole number from 1 to %d, got %q", top, text)
	}
	return n, nil
}

// Cut returns the page's part of all, never nil, and its result_info.
func Cut[T any](p Pages, all []T) ([]T, *PageInfo) {
	from := min((p.Page-1)*p.Per, len(all))
	part := all[from:min(from+p.Per, len(all))]
	if part == nil {
		part = []T{}
	}
	return part, &PageInfo{
		Page: p.Page, PerPage: p.Per, Count: len(part), TotalCount: len(all),
		TotalPages: (len(all) + p.Per - 1) / p.Per,
	}
}

// OneOf refuses a query parameter that is not one of the allowed values; the
// first is what an absent one means.
func OneOf(q url.Values, name string, allowed ...string) (string, error) {
	v := q.Get(name)
	if v == "" {
		return allowed[0], nil
	}
	for _, a := range allowed {
		if v == a {
			return v, nil
		}
	}
	return "", Invalid(CodeBadRequest, name, "must be one of %q, got %q", allowed, v)
}
