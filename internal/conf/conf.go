// Package conf reads a commented YAML file of settings strictly: each key must
// be known, be there once and have a value that its setting accepts, else the
// file is refused with the key and the line.
package conf

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// MaxFile is the size in bytes of the largest file that is read.
const MaxFile = 64 << 10

// Setting is one key that a file may have.
type Setting struct {
	Key string
	Set func(value string) error
	// List allows a YAML list; its items are joined with commas for Set.
	List bool
}

// Load reads a file and calls Set for each key in it, in the file's order.
func Load(path string, settings []Setting) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() > MaxFile {
		return fmt.Errorf("%s: over %d bytes", path, MaxFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return Parse(path, text, settings)
}

// Parse is Load for text; name stands for the file in errors.
func Parse(name string, text []byte, settings []Setting) error {
	if len(text) > MaxFile {
		return fmt.Errorf("%s: over %d bytes", name, MaxFile)
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return syntax(name, err)
	}
	var pairs []*ast.MappingValueNode
	for i, doc := range file.Docs {
		if i > 0 && doc.Body != nil {
			return fmt.Errorf("%s:%d: a second document; one is allowed", name, doc.Body.GetToken().Position.Line)
		}
		switch body := doc.Body.(type) {
		case nil, *ast.CommentGroupNode:
		case *ast.MappingNode:
			pairs = body.Values
		case *ast.MappingValueNode:
			pairs = []*ast.MappingValueNode{body}
		default:
			return fmt.Errorf("%s:%d: lines of the form \"key: value\" are needed", name, body.GetToken().Position.Line)
		}
	}
	seen := map[string]int{}
	for _, pair := range pairs {
		if err := apply(pair, settings, seen); err != nil {
			return fmt.Errorf("%s:%d: %w", name, pair.Key.GetToken().Position.Line, err)
		}
	}
	return nil
}

func apply(pair *ast.MappingValueNode, settings []Setting, seen map[string]int) error {
	key := pair.Key.GetToken().Value
	i := slices.IndexFunc(settings, func(s Setting) bool { return s.Key == key })
	if i < 0 {
		return fmt.Errorf("unknown key %q%s", key, suggest(key, settings))
	}
	if first, twice := seen[key]; twice {
		return fmt.Errorf("key %q is there twice, first in line %d", key, first)
	}
	seen[key] = pair.Key.GetToken().Position.Line
	value, err := text(pair.Value, settings[i].List)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if err := settings[i].Set(value); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// text renders a scalar, or a list of them, as the command line would have it.
func text(n ast.Node, list bool) (string, error) {
	if seq, ok := n.(*ast.SequenceNode); ok {
		if !list {
			return "", errors.New("one value is needed, not a list")
		}
		items := make([]string, len(seq.Values))
		for i, v := range seq.Values {
			item, err := text(v, false)
			if err != nil {
				return "", err
			}
			if strings.Contains(item, ",") {
				return "", fmt.Errorf("item %q: a comma is not allowed inside a list", item)
			}
			items[i] = item
		}
		return strings.Join(items, ","), nil
	}
	switch v := n.(type) {
	case *ast.StringNode:
		return v.Value, nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, nil
	case nil, *ast.NullNode:
		return "", errors.New("no value; give one or remove the line")
	}
	return "", errors.New("a plain value is needed")
}

// suggest names the known key that a mistyped one was likely meant to be.
func suggest(key string, settings []Setting) string {
	flat := func(s string) string { return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s)) }
	for _, s := range settings {
		if flat(s.Key) == flat(key) || near(s.Key, key) {
			return fmt.Sprintf("; did you mean %q?", s.Key)
		}
	}
	keys := make([]string, len(settings))
	for i, s := range settings {
		keys[i] = s.Key
	}
	slices.Sort(keys)
	return "; known are " + strings.Join(keys, ", ")
}

// near reports whether one letter was added, lost or changed.
func near(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	if len(b)-len(a) > 1 {
		return false
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	if len(a) == len(b) {
		return i < len(a) && a[i+1:] == b[i+1:]
	}
	return a[i:] == b[i+1:]
}

var position = regexp.MustCompile(`^\[(\d+):\d+\] (.*)`)

// syntax puts the library's position in front; its drawing of the source, which
// may hold a token, is left out.
func syntax(name string, err error) error {
	first, _, _ := strings.Cut(err.Error(), "\n")
	if m := position.FindStringSubmatch(first); m != nil {
		return fmt.Errorf("%s:%s: %s", name, m[1], m[2])
	}
	return fmt.Errorf("%s: %s", name, first)
}
