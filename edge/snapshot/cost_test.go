package snapshot

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"runtime"
	"testing"
	"time"

	"github.com/selvage-edge/selvage/zone"
)

// BenchmarkZones compiles zones of eight records and a certificate each, as
// many at a time as it is named by. heap-bytes/zone is what one more costs an
// edge, ns/op what all cost to compile.
func BenchmarkZones(b *testing.B) {
	for _, n := range []int{100, 1_000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			key, der := certificateKey(b)
			specs := make([]*zone.Spec, n)
			for i := range specs {
				specs[i] = customer(b, i, key, der)
			}
			before := heap()
			var all []*Zone
			for b.Loop() {
				all = all[:0]
				for _, spec := range specs {
					z, err := Compile(spec, &zone.Shared{Colo: "FRA"})
					if err != nil {
						b.Fatal(err)
					}
					all = append(all, z)
				}
			}
			b.ReportMetric(float64(heap()-before)/float64(n), "heap-bytes/zone")
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(n), "us/zone")
			runtime.KeepAlive(all)
			runtime.KeepAlive(specs)
		})
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

func certificateKey(b *testing.B) (*ecdsa.PrivateKey, []byte) {
	b.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		b.Fatal(err)
	}
	return key, der
}

// customer is a zone as most are: a site with mail.
func customer(b *testing.B, i int, key *ecdsa.PrivateKey, der []byte) *zone.Spec {
	b.Helper()
	name := fmt.Sprintf("customer%d.test", i)
	hosts := []string{name, "*." + name}
	until := time.Now().Add(24 * time.Hour)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name}, DNSNames: hosts, NotBefore: time.Now().Add(-time.Hour), NotAfter: until}
	text, err := x509.CreateCertificate(rand.Reader, leaf, leaf, &key.PublicKey, key)
	if err != nil {
		b.Fatal(err)
	}
	priority := uint16(10)
	record := func(name, kind, content string, proxied bool) zone.Record {
		return zone.Record{ID: fmt.Sprintf("%032x", i), Name: name, Type: kind, Content: content, TTL: 1, Proxied: proxied}
	}
	mx := record(name, "MX", "mail."+name, false)
	mx.Priority = &priority
	return &zone.Spec{
		Meta: zone.Meta{ID: fmt.Sprintf("%032x", i), Name: name, Status: "active", NameServers: []string{"ada.ns.test", "bob.ns.test"}},
		Seq:  uint64(i + 1),
		Records: []zone.Record{
			record(name, "A", "203.0.113.66", true), record(name, "AAAA", "2001:db8::66", true), record("www."+name, "CNAME", name, true),
			record("api."+name, "A", "203.0.113.67", true), record("mail."+name, "A", "203.0.113.68", false), mx,
			record(name, "TXT", "v=spf1 mx -all", false), record("_dmarc."+name, "TXT", "v=DMARC1; p=reject", false),
		},
		Certificates: []zone.Certificate{{
			ID: fmt.Sprintf("%032x", i), Chain: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: text})), Hosts: hosts, Expires: until, PrivateKey: der,
		}},
	}
}
