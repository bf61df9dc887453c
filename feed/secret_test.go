package feed

import (
	"strings"
	"testing"
)

func TestSecretOutlivesARestartAndIsForOneUse(t *testing.T) {
	id := newTestCA(t).identity(strings.Repeat("ab", 16), "FRA")
	one, err := id.Secret("a")
	if err != nil {
		t.Fatal(err)
	}
	again, err := id.Secret("a")
	if err != nil || one != again {
		t.Errorf("the same label gives another secret, %v", err)
	}
	if other, err := id.Secret("b"); err != nil || other == one {
		t.Errorf("another label gives the same secret, %v", err)
	}
}
