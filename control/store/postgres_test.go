package store_test

import (
	"strings"
	"testing"

	"github.com/selvage-edge/selvage/control/store"
)

func TestAddressesAreJudged(t *testing.T) {
	for place, want := range map[string]string{
		"postgres://x@127.0.0.1:1/db?pool_max_conns=1":              "from 2 to 1000",
		"postgres://x@127.0.0.1:1/db?pool_max_conns=many":           "from 2 to 1000",
		"postgres://user:secretword@127.0.0.1:1/db":                 "postgres://user@127.0.0.1:1/db cannot be used",
		"postgresql://user:secretword@127.0.0.1:notaport/db":        "address",
		"postgres://user:secretword@127.0.0.1:1/db?sslmode=unheard": "sslmode",
	} {
		s, err := store.Open(t.Context(), place)
		if err == nil {
			_ = s.Close()
			t.Errorf("%s was opened", place)
			continue
		}
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secretword") {
			t.Errorf("%s: got %v, want %q and no password", place, err, want)
		}
	}
}
