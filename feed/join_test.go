package feed

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// desk enrols as control/identity does: each secret once.
type desk struct {
	ca      *testCA
	secrets map[[32]byte]bool
	renewed []string
}

func (d *desk) enroll(_ context.Context, req JoinRequest) (JoinReply, error) {
	id := nodeID(42)
	if req.Renew != "" {
		d.renewed = append(d.renewed, req.Renew)
		id = req.Renew
	} else {
		if len(req.Secret) != 32 || !d.secrets[[32]byte(req.Secret)] {
			return JoinReply{}, Refuse(ReasonToken, "used")
		}
		delete(d.secrets, [32]byte(req.Secret))
	}
	csr, err := x509.ParseCertificateRequest(req.CSR)
	if err != nil {
		return JoinReply{}, Refuse(ReasonRequest, "csr")
	}
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.ca.sign(id, req.Colo, csr.PublicKey)})
	return JoinReply{NodeID: id, Chain: string(leaf) + string(d.ca.pem), CA: string(d.ca.pem)}, nil
}

func newDesk(t *testing.T) (*world, *desk, Token) {
	d := &desk{secrets: map[[32]byte]bool{}}
	w := newWorld(t, func(c *ServerConfig) { c.Enroll = d.enroll })
	d.ca = w.ca
	token := NewToken(w.ca.cert)
	d.secrets[token.Secret] = true
	return w, d, token
}

func TestJoinGivesAnIdentityOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _, token := newDesk(t)
		dir := filepath.Join(t.TempDir(), "identity")
		if _, err := LoadIdentity(dir); !errors.Is(err, ErrNoIdentity) {
			t.Errorf("%v, want ErrNoIdentity", err)
		}
		id, err := JoinVia(t.Context(), w.dial, "parent", token.String(), dir, "FRA", "host")
		if err != nil {
			t.Fatal(err)
		}
		loaded, err := LoadIdentity(dir)
		if err != nil {
			t.Fatal(err)
		}
		if loaded.NodeID != id.NodeID || loaded.Colo != "FRA" || !bytes.Equal(loaded.HPKEPublic(), id.HPKEPublic()) {
			t.Errorf("loaded %s %s, want what joined", loaded.NodeID, loaded.Colo)
		}
		for _, name := range []string{filePair, fileHPKE} {
			if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v; want 0600", name, info, err)
			}
		}
		_, err = JoinVia(t.Context(), w.dial, "parent", token.String(), t.TempDir(), "AMS", "host")
		if !Refused(err, ReasonToken) {
			t.Errorf("second use: %v, want the token refused", err)
		}
		e := w.edge(1, func(c *SubscriberConfig) { c.Identity = loaded })
		synctest.Wait()
		w.log.set("a", "1")
		e.reaches(1)
	})
}

func TestJoinRefusesAnotherCA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, token := newDesk(t)
		token.Pin = Pin(newTestCA(t).cert)
		dir := t.TempDir()
		_, err := JoinVia(t.Context(), w.dial, "parent", token.String(), dir, "FRA", "host")
		if err == nil || !strings.Contains(err.Error(), "not signed by the CA that the join token names") {
			t.Errorf("%v, want the pin's refusal", err)
		}
		if len(d.secrets) != 1 {
			t.Error("the secret was given to a stranger")
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("files were left: %v", left)
		}
	})
}

func TestJoinWhereNobodyEnrols(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		_, err := JoinVia(t.Context(), w.dial, "parent", NewToken(w.ca.cert).String(), t.TempDir(), "FRA", "")
		if !Refused(err, ReasonRequest) {
			t.Errorf("%v, want a refusal", err)
		}
	})
}

func TestCertificateIsRenewedInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d, token := newDesk(t)
		dir := t.TempDir()
		id, err := JoinVia(t.Context(), w.dial, "parent", token.String(), dir, "FRA", "host")
		if err != nil {
			t.Fatal(err)
		}
		before := id.Certificate()
		// The edge was off for two months.
		<-time.After(61 * 24 * time.Hour)
		e := w.edge(1, func(c *SubscriberConfig) { c.Identity = id })
		synctest.Wait()
		w.log.set("a", "1")
		e.reaches(1)
		after := id.Certificate()
		if bytes.Equal(before.Raw, after.Raw) || !after.NotAfter.After(before.NotAfter) {
			t.Errorf("certificate until %s, want a newer one than until %s", after.NotAfter, before.NotAfter)
		}
		if len(d.renewed) != 1 || d.renewed[0] != id.NodeID {
			t.Errorf("renewals %v, want one of %s", d.renewed, id.NodeID)
		}
		loaded, err := LoadIdentity(dir)
		if err != nil || !bytes.Equal(loaded.Certificate().Raw, after.Raw) {
			t.Errorf("on disk: %v, want the renewed certificate", err)
		}
	})
}

func TestRevokedNodeCannotRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{}
		w := newWorld(t, func(c *ServerConfig) {
			c.Enroll = d.enroll
			c.Known = func(context.Context, string) error { return Refuse(ReasonRevoked, "x") }
		})
		d.ca = w.ca
		id := w.ca.identity(nodeID(1), "FRA")
		if err := id.Renew(t.Context(), w.dial, "parent"); !Refused(err, ReasonRevoked) {
			t.Errorf("%v, want revoked", err)
		}
		if len(d.renewed) != 0 {
			t.Error("a revoked node got a certificate")
		}
	})
}

func TestParseToken(t *testing.T) {
	good := NewToken(newTestCA(t).cert)
	if got, err := ParseToken(" " + good.String() + "\n"); err != nil || got != good {
		t.Errorf("%v, %v; want the token back", got, err)
	}
	text := good.String()
	cases := []struct{ text, want string }{
		{"", "must start with"},
		{"abc", "must start with"},
		{"SJ1.abc", "has 2 parts"},
		{text + ".x", "has 4 parts"},
		{text[:len(text)-3], "secret has 30 bytes"},
		{text[:len(text)-20] + "\n" + text[len(text)-20:], "was it copied whole"},
		{"SJ1.!!." + text[len(text)-43:], "CA fingerprint is not base64url"},
		{text[:len(text)-43] + "", "secret has 0 bytes"},
	}
	for _, c := range cases {
		if _, err := ParseToken(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.text, err, c.want)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(Token{}.String())
	f.Fuzz(func(t *testing.T, text string) {
		if token, err := ParseToken(text); err == nil && token.String() != strings.TrimSpace(text) {
			t.Fatalf("%q does not come back", text)
		}
	})
}

func TestDamagedIdentityIsNamed(t *testing.T) {
	ca := newTestCA(t)
	sealing, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{fileNode, filePair, fileCA, fileHPKE} {
		dir := t.TempDir()
		id, err := NewIdentity(*ca.identity(nodeID(1), "FRA").pair.Load(), ca.pem, sealing.Bytes())
		if err == nil {
			err = id.save(dir, sealing.Bytes())
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, text[:len(text)/2], 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := LoadIdentity(dir); err == nil || errors.Is(err, ErrNoIdentity) {
			t.Errorf("half of %s: %v, want it named", name, err)
		}
	}
}

func TestSealedKeysOpenForTheirNodeAndCertificateOnly(t *testing.T) {
	ca := newTestCA(t)
	one, two := ca.identity(nodeID(1), "FRA"), ca.identity(nodeID(2), "AMS")
	key := NewDataKey()
	sealed, err := SealFor(one.HPKEPublic(), "cert", key)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := one.OpenKey("cert", sealed); err != nil || !bytes.Equal(got, key) {
		t.Errorf("%x, %v; want the key", got, err)
	}
	if _, err := one.OpenKey("other", sealed); err == nil {
		t.Error("opens for another certificate")
	}
	if _, err := two.OpenKey("cert", sealed); err == nil {
		t.Error("opens for another node")
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := one.OpenKey("cert", bad); err == nil {
			t.Errorf("opens with byte %d changed", i)
		}
	}
	if _, err := SealFor([]byte("short"), "cert", key); err == nil {
		t.Error("seals to no key")
	}
	der := []byte("a private key")
	box, err := EncryptKey(key, "cert", der)
	if err != nil || bytes.Contains(box, der) {
		t.Fatalf("%x, %v; want it encrypted", box, err)
	}
	if got, err := DecryptKey(key, "cert", box); err != nil || !bytes.Equal(got, der) {
		t.Errorf("%s, %v; want it back", got, err)
	}
	for name, try := range map[string]func() ([]byte, error){
		"another certificate": func() ([]byte, error) { return DecryptKey(key, "other", box) },
		"another key":         func() ([]byte, error) { return DecryptKey(NewDataKey(), "cert", box) },
		"no key":              func() ([]byte, error) { return DecryptKey(nil, "cert", box) },
		"cut":                 func() ([]byte, error) { return DecryptKey(key, "cert", box[:len(box)-1]) },
		"nothing":             func() ([]byte, error) { return DecryptKey(key, "cert", nil) },
	} {
		if _, err := try(); err == nil {
			t.Errorf("%s opens it", name)
		}
	}
}
