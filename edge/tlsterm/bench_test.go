package tlsterm

import (
	"crypto/tls"
	"testing"
)

// BenchmarkHandshake counts both sides' cost over loopback.
func BenchmarkHandshake(b *testing.B) {
	e := engine(map[string]*Plan{"a.test": compile(b, spec("a.test", "1.2", issue(b, "a", ecKey(b), soon(), "a.test")))})
	for _, mode := range []struct {
		name  string
		cache tls.ClientSessionCache
	}{{"full", nil}, {"resumed", &oneSession{}}} {
		b.Run(mode.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if o := shake(b, e, &tls.Config{ServerName: "a.test", ClientSessionCache: mode.cache}); o.clientErr != nil {
					b.Fatal(o.clientErr)
				}
			}
		})
	}
}

// FuzzCompile holds the reader of chains and keys to an error or a plan.
func FuzzCompile(f *testing.F) {
	good := issue(f, "a", ecKey(f), soon(), "a.test")
	f.Add(good.Chain, good.PrivateKey)
	f.Add(good.Chain+good.Chain, []byte{})
	f.Add("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", []byte("x"))
	f.Fuzz(func(t *testing.T, chain string, key []byte) {
		c := good
		c.Chain, c.PrivateKey = chain, key
		p, err := Compile(spec("a.test", "1.2", c))
		if (p == nil) != (err != nil) {
			t.Fatalf("plan %v, error %v", p, err)
		}
		if err == nil && len(p.Missing) == 0 && len(p.exact)+len(p.wildcard) == 0 {
			t.Fatal("a certificate went nowhere")
		}
	})
}
