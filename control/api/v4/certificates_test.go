package v4_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/control/store/storetest"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

type issued struct {
	chain, key string
	der        []byte // of the key, PKCS#8
}

// issue makes a leaf of a CA of its own.
func issue(t *testing.T, key crypto.Signer, expires time.Time, hosts ...string) issued {
	t.Helper()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, NotBefore: time.Now().Add(-time.Hour * 48),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour * 48), NotAfter: expires, DNSNames: hosts}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return issued{block("CERTIFICATE", leafDER) + block("CERTIFICATE", caDER), block("PRIVATE KEY", der), der}
}

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (c issued) body() string {
	b, _ := json.Marshal(map[string]string{"certificate": c.chain, "private_key": c.key, "bundle_method": "force"})
	return string(b)
}

type certificate struct {
	ID, Issuer, Signature, Status string
	Hosts                         []string
	Bundle                        string `json:"bundle_method"`
	Zone                          string `json:"zone_id"`
}

func TestCertificatesAndTheirKeys(t *testing.T) {
	p := newPlane(t)
	zonePath := p.zone("cert.test")
	path := zonePath + "/custom_certificates"
	soon := time.Now().Add(time.Hour)
	made := issue(t, ecKey(t), soon, "cert.test", "*.cert.test")
	var c certificate
	a := p.ok("POST", path, made.body(), &c)
	if c.Status != "active" || c.Issuer != "Test CA" || c.Signature != "ECDSAWithSHA256" || len(c.Hosts) != 2 || c.Bundle != "force" {
		t.Errorf("certificate: %+v", c)
	}
	if strings.Contains(string(a.Body), "PRIVATE KEY") {
		t.Error("an answer has the private key")
	}
	p.opens(c.ID, made.der)
	second := issue(t, ecKey(t), soon, "www.cert.test")
	p.ok("PATCH", path+"/"+c.ID, second.body(), &c)
	p.opens(c.ID, second.der)
	p.ok("PATCH", path+"/"+c.ID, `{"bundle_method":"optimal"}`, &c)
	if c.Bundle != "optimal" || len(c.Hosts) != 1 {
		t.Errorf("after patch: %+v", c)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p.ok("POST", path, issue(t, ed, soon, "cert.test").body(), nil)
	var all []certificate
	p.ok("GET", path, "", &all)
	if len(all) != 2 {
		t.Errorf("list: %+v", all)
	}
	p.ok("GET", path+"?page=2", "", &all)
	if len(all) != 0 {
		t.Errorf("page 2: %+v", all)
	}
	p.ok("GET", path+"/"+c.ID, "", nil)
	p.noKeyOnDisk(made, second)
	p.ok("DELETE", path+"/"+c.ID, "", nil)
	if rows := p.keys(); len(names(rows, "cert/")) != 1 {
		t.Error("a deleted certificate left rows in the feed's state")
	}
	p.bad("GET", path+"/"+c.ID, "", 404, 1412, "custom_certificate_id")
	p.bad("DELETE", path+"/"+c.ID, "", 404, 1412, "custom_certificate_id")
	p.ok("DELETE", zonePath, "", nil)
	if rows := p.keys(); len(rows) != 0 {
		t.Errorf("a deleted zone left %v", rows)
	}
}

// opens checks that the node can open the certificate's key from what the feed
// carries.
func (p *plane) opens(certID string, der []byte) {
	p.t.Helper()
	rows := p.keys()
	var row zone.Certificate
	for k, v := range rows {
		if strings.HasSuffix(k, "/cert/"+certID) {
			if err := json.Unmarshal([]byte(v), &row); err != nil {
				p.t.Fatal(err)
			}
		}
	}
	if len(row.Sealed) > 0 {
		p.t.Error("the feed carries the key")
	}
	sum, err := feed.ParsePairSum(row.Pair)
	if err != nil {
		p.t.Fatal(err)
	}
	var stored store.Certificate
	var zoneID string
	if err := p.store.Read(p.t.Context(), func(tx *store.Tx) (err error) {
		stored, zoneID, err = tx.PairOf(p.t.Context(), feed.PairRef{ID: certID, Sum: sum})
		return err
	}); err != nil {
		p.t.Fatal(err)
	}
	pair, err := p.publish.PairFor(p.node.PublicKey().Bytes(), zoneID, &stored)
	if err != nil || pair.Chain != row.Chain || pair.Ref().Sum != sum {
		p.t.Fatalf("the pair is not the one that the feed names: %v", err)
	}
	key, err := p.publish.Vault.Unwrap(certID, stored.DataKey)
	if err != nil {
		p.t.Fatal(err)
	}
	opened, err := feed.DecryptKey(key, certID, pair.Sealed)
	if err != nil || !bytes.Equal(opened, der) {
		p.t.Errorf("the sealed key does not open to what was sent: %v", err)
	}
}

// noKeyOnDisk looks for the keys in each file of the state folder.
func (p *plane) noKeyOnDisk(certs ...issued) {
	p.t.Helper()
	for f, text := range storetest.Dump(p.t, p.dir) {
		if bytes.Contains(text, []byte("PRIVATE KEY")) {
			p.t.Errorf("%s has a private key in PEM", f)
		}
		for i, c := range certs {
			if bytes.Contains(text, c.der) || bytes.Contains(text, []byte(c.key[40:90])) {
				p.t.Errorf("%s has private key %d in the clear", f, i)
			}
		}
	}
}

func TestCertificateRefusals(t *testing.T) {
	p := newPlane(t)
	path := p.zone("cert.test") + "/custom_certificates"
	soon := time.Now().Add(time.Hour)
	good, other := issue(t, ecKey(t), soon, "cert.test"), issue(t, ecKey(t), soon, "cert.test")
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	leafOnly, rest, _ := strings.Cut(good.chain, "-----END CERTIFICATE-----\n")
	leafOnly += "-----END CERTIFICATE-----\n"
	for _, tt := range []struct {
		name  string
		c     issued
		field string
	}{
		{"no certificate", issued{chain: "", key: good.key}, "certificate"},
		{"no key", issued{chain: good.chain}, "private_key"},
		{"not PEM", issued{chain: "hello", key: good.key}, "certificate"},
		{"key in the chain", issued{chain: good.chain + good.key, key: good.key}, "certificate"},
		{"trailing text", issued{chain: good.chain + "junk", key: good.key}, "certificate"},
		{"chain out of order", issued{chain: rest + leafOnly, key: good.key}, "certificate"},
		{"damaged", issued{chain: strings.Replace(good.chain, "MII", "MIJ", 1), key: good.key}, "certificate"},
		{"key of another", issued{chain: good.chain, key: other.key}, "private_key"},
		{"certificate as key", issued{chain: good.chain, key: good.chain}, "private_key"},
		{"damaged key", issued{chain: good.chain, key: strings.Replace(good.key, "MIG", "MIH", 1)}, "private_key"},
		{"expired", issue(t, ecKey(t), time.Now().Add(-time.Hour), "cert.test"), "certificate"},
		{"no host", issue(t, ecKey(t), soon), "certificate"},
		{"host outside", issue(t, ecKey(t), soon, "cert.test", "other.test"), "certificate"},
		{"small RSA", issue(t, small, soon, "cert.test"), "private_key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p.t = t
			p.bad("POST", path, tt.c.body(), 400, 1002, tt.field)
		})
	}
	p.t = t
	p.bad("POST", path, `{"certificate":"x","private_key":"y","bundle_method":"odd"}`, 400, 1002, "bundle_method")
	p.bad("POST", path, `{"certificate":5}`, 400, 6007, "certificate")
	p.bad("GET", path+"/"+strings.Repeat("0", 32), "", 404, 1412, "custom_certificate_id")
	p.bad("GET", path+"/xyz", "", 400, 7003, "cert_id")
	if got := fmt.Sprint(names(p.keys(), "cert/")); got != "[]" {
		t.Errorf("refused certificates left %s", got)
	}
}
