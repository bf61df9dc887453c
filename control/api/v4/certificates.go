package v4

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/selvage-edge/selvage/control/api"
	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/zone"
)

type certificateResult struct {
	ID           string   `json:"id"`
	ZoneID       string   `json:"zone_id"`
	Hosts        []string `json:"hosts"`
	Issuer       string   `json:"issuer"`
	Signature    string   `json:"signature"`
	Status       string   `json:"status"`
	BundleMethod string   `json:"bundle_method"`
	Priority     int      `json:"priority"`
	UploadedOn   string   `json:"uploaded_on"`
	ModifiedOn   string   `json:"modified_on"`
	ExpiresOn    string   `json:"expires_on"`
}

// statusPending is a certificate's whose pair is on its way to the edges: they
// serve the one that it replaces.
const statusPending = "pending"

func newCertificateResult(z *store.Zone, c *store.Certificate) certificateResult {
	status := statusActive
	if slices.ContainsFunc(z.Staged, func(s store.Certificate) bool { return s.ID == c.ID }) {
		status = statusPending
	}
	if time.Now().After(c.Expires) {
		status = "expired"
	}
	zoneID := z.ID
	return certificateResult{
		ID: c.ID, ZoneID: zoneID, Hosts: nonNil(c.Hosts), Issuer: c.Issuer, Signature: c.Signature, Status: status,
		BundleMethod: c.Bundle, UploadedOn: stamp(c.Created), ModifiedOn: stamp(c.Changed), ExpiresOn: stamp(c.Expires),
	}
}

func (s *Server) listCertificates(ctx context.Context, c *api.Call) (api.Answer, error) {
	q := c.URL.Query()
	pages, err := api.ReadPages(q, 20, 50)
	if err != nil {
		return api.Answer{}, err
	}
	status, err := api.OneOf(q, "status", "", "active", "expired", "deleted", "pending", "initializing")
	if err != nil {
		return api.Answer{}, err
	}
	z, err := s.read(ctx, c)
	if err != nil {
		return api.Answer{}, err
	}
	var all []certificateResult
	for _, c := range z.Newest() {
		r := newCertificateResult(z, &c)
		if status == "" || r.Status == status {
			all = append(all, r)
		}
	}
	part, info := api.Cut(pages, all)
	return api.Answer{Result: part, Info: info}, nil
}

// findCertificate returns a certificate as it is when what is staged is
// published.
func findCertificate(z *store.Zone, id string) (store.Certificate, error) {
	all := z.Newest()
	i := slices.IndexFunc(all, func(c store.Certificate) bool { return c.ID == id })
	if i < 0 {
		return store.Certificate{}, api.Missing(api.CodeNoCertificate, "custom_certificate_id: no certificate of this zone has the identifier %s", limit(id, 64))
	}
	return all[i], nil
}

func (s *Server) getCertificate(ctx context.Context, c *api.Call) (api.Answer, error) {
	id, err := pathID(c, "cert")
	if err != nil {
		return api.Answer{}, err
	}
	z, err := s.read(ctx, c)
	if err != nil {
		return api.Answer{}, err
	}
	found, err := findCertificate(z, id)
	if err != nil {
		return api.Answer{}, err
	}
	return api.Answer{Result: newCertificateResult(z, &found)}, nil
}

// certificateInput is a certificate as it is sent; "" for what was not.
type certificateInput struct {
	Certificate string `json:"certificate"`
	PrivateKey  string `json:"private_key"`
	Bundle      string `json:"bundle_method"`
	Type        string `json:"type"`
}

func readCertificate(c *api.Call) (*certificateInput, error) {
	var in certificateInput
	if err := api.Decode(c, &in); err != nil {
		return nil, err
	}
	if in.Bundle != "" && !slices.Contains([]string{"ubiquitous", "optimal", "force"}, in.Bundle) {
		return nil, api.Invalid(api.CodeCertificate, "bundle_method", "must be ubiquitous, optimal or force, got %q", limit(in.Bundle, 40))
	}
	if in.Type != "" && in.Type != "legacy_custom" && in.Type != "sni_custom" {
		return nil, api.Invalid(api.CodeCertificate, "type", "must be legacy_custom or sni_custom, got %q", limit(in.Type, 40))
	}
	return &in, nil
}

func (s *Server) createCertificate(ctx context.Context, c *api.Call) (api.Answer, error) {
	in, err := readCertificate(c)
	if err != nil {
		return api.Answer{}, err
	}
	now := store.Now()
	made := store.Certificate{Bundle: "ubiquitous", Created: now, Changed: now, Certificate: zone.Certificate{ID: newID()}}
	var result certificateResult
	seq, err := s.edit(ctx, c, api.CodeCertificate, "certificate.create", made.ID, func(z *store.Zone) error {
		if len(z.Newest()) >= zone.MaxCertificates {
			return api.Invalid(api.CodeQuota, "certificate", "a zone may have %d certificates", zone.MaxCertificates)
		}
		if err := s.fillCertificate(z, &made, in); err != nil {
			return err
		}
		z.Stage(made)
		result = newCertificateResult(z, &made)
		return nil
	})
	if err != nil {
		return api.Answer{}, err
	}
	return s.deployed(ctx, result, made.Ref(), seq)
}

// deployed waits a little for a staged certificate to be published and answers
// with that entry's number. One that takes longer is answered as it is:
// pending, and stored.
func (s *Server) deployed(ctx context.Context, result certificateResult, ref feed.PairRef, staged uint64) (api.Answer, error) {
	seq, err := s.Deploy(ctx, result.ZoneID, ref)
	if err != nil || seq == 0 {
		return api.Answer{Result: result, Seq: staged}, err
	}
	result.Status = statusActive
	return api.Answer{Result: result, Seq: seq}, nil
}

// patchCertificate replaces the certificate and its key, or the bundle method.
func (s *Server) patchCertificate(ctx context.Context, c *api.Call) (api.Answer, error) {
	id, err := pathID(c, "cert")
	if err != nil {
		return api.Answer{}, err
	}
	in, err := readCertificate(c)
	if err != nil {
		return api.Answer{}, err
	}
	var result certificateResult
	var made store.Certificate
	replaced := in.Certificate != "" || in.PrivateKey != ""
	seq, err := s.edit(ctx, c, api.CodeCertificate, "certificate.patch", id, func(z *store.Zone) (err error) {
		if made, err = findCertificate(z, id); err != nil {
			return err
		}
		was := made
		if made.Changed = store.Now(); replaced {
			if err := s.fillCertificate(z, &made, in); err != nil {
				return err
			}
			made.Managed = false
			// The same chain has the same key: an identical write changes nothing.
			if replaced = made.Chain != was.Chain || made.Bundle != was.Bundle || was.Managed; replaced {
				z.Stage(made)
			} else {
				made = was
			}
		} else if made = was; in.Bundle != "" && in.Bundle != was.Bundle {
			made.Changed = store.Now()
			made.Bundle = in.Bundle
			for _, list := range [][]store.Certificate{z.Certificates, z.Staged} {
				for i := range list {
					if list[i].ID == id {
						list[i].Bundle, list[i].Changed = made.Bundle, made.Changed
					}
				}
			}
		}
		result = newCertificateResult(z, &made)
		return nil
	})
	if err != nil || !replaced {
		return api.Answer{Result: result, Seq: seq}, err
	}
	return s.deployed(ctx, result, made.Ref(), seq)
}

func (s *Server) deleteCertificate(ctx context.Context, c *api.Call) (api.Answer, error) {
	id, err := pathID(c, "cert")
	if err != nil {
		return api.Answer{}, err
	}
	seq, err := s.edit(ctx, c, api.CodeCertificate, "certificate.delete", id, func(z *store.Zone) error {
		if _, err := findCertificate(z, id); err != nil {
			return err
		}
		is := func(c store.Certificate) bool { return c.ID == id }
		z.Certificates, z.Staged = slices.DeleteFunc(z.Certificates, is), slices.DeleteFunc(z.Staged, is)
		return nil
	})
	return api.Answer{Result: reference{ID: id}, Seq: seq}, err
}

func (s *Server) fillCertificate(z *store.Zone, made *store.Certificate, in *certificateInput) error {
	chain, err := readChain(in.Certificate)
	if err != nil {
		return err
	}
	key, err := readKey(in.PrivateKey)
	if err != nil {
		return err
	}
	if err := checkLeaf(chain[0], key, z.Name, time.Now()); err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode private key: %w", err)
	}
	defer clear(der)
	if made.Sealed, made.DataKey, err = s.Publish.Lock(made.ID, der); err != nil {
		return err
	}
	made.Chain, made.Hosts, made.Expires = in.Certificate, hostsOf(chain[0]), chain[0].NotAfter.UTC()
	made.Issuer, made.Signature = chain[0].Issuer.CommonName, signatureOf(chain[0])
	if in.Bundle != "" {
		made.Bundle = in.Bundle
	}
	return nil
}

// maxChain bounds the certificates of one chain.
const maxChain = 10

// readChain reads the PEM text: the leaf first, each next one the issuer of the
// one before it.
func readChain(text string) ([]*x509.Certificate, error) {
	bad := func(format string, args ...any) ([]*x509.Certificate, error) {
		return nil, api.Invalid(api.CodeCertificate, "certificate", format, args...)
	}
	if text == "" {
		return bad("is missing")
	}
	var chain []*x509.Certificate
	rest := []byte(text)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return bad("has a PEM block of type %q; only CERTIFICATE belongs here", limit(block.Type, 40))
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return bad("number %d of the chain cannot be read: %s", len(chain)+1, err)
		}
		if n := len(chain); n > 0 {
			if err := chain[n-1].CheckSignatureFrom(cert); err != nil {
				return bad("number %d of the chain did not sign number %d: send the leaf first, then each issuer", n+1, n)
			}
		}
		if chain = append(chain, cert); len(chain) > maxChain {
			return bad("the chain has more than %d certificates", maxChain)
		}
	}
	if len(chain) == 0 || strings.TrimSpace(string(rest)) != "" {
		return bad("must be PEM text and nothing else")
	}
	return chain, nil
}

// readKey reads PKCS#8, PKCS#1 or SEC 1 in PEM.
func readKey(text string) (crypto.Signer, error) {
	bad := func(why string) (crypto.Signer, error) {
		return nil, api.Invalid(api.CodeCertificate, "private_key", "%s", why)
	}
	if text == "" {
		return bad("is missing")
	}
	var block *pem.Block
	for rest := []byte(text); ; {
		// OpenSSL writes EC PARAMETERS before an EC key.
		if block, rest = pem.Decode(rest); block == nil || block.Type != "EC PARAMETERS" {
			break
		}
	}
	if block == nil {
		return bad("must be PEM text")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return bad("is encrypted: send it without a passphrase")
	default:
		return bad("has a PEM block that is no private key")
	}
	if err != nil {
		return bad("cannot be read; is it damaged?") // never echo anything of a key
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() < 2048 || k.N.BitLen() > 8192 {
			return bad(fmt.Sprintf("RSA keys need 2048 to 8192 bits, this has %d", k.N.BitLen()))
		}
		return k, nil
	case *ecdsa.PrivateKey:
		return k, nil
	case ed25519.PrivateKey:
		return k, nil
	}
	return bad("must be RSA, ECDSA or Ed25519")
}

func checkLeaf(leaf *x509.Certificate, key crypto.Signer, zoneName string, now time.Time) error {
	bad := func(field, format string, args ...any) error {
		return api.Invalid(api.CodeCertificate, field, format, args...)
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(leaf.PublicKey) {
		return bad("private_key", "does not belong to the certificate")
	}
	if now.After(leaf.NotAfter) {
		return bad("certificate", "expired on %s", stamp(leaf.NotAfter))
	}
	hosts := hostsOf(leaf)
	if len(hosts) == 0 {
		return bad("certificate", "names no host (subject alternative names)")
	}
	for _, h := range hosts {
		if bare := strings.TrimPrefix(h, "*."); bare != zoneName && !strings.HasSuffix(bare, "."+zoneName) {
			return bad("certificate", "its host %s is not in the zone %s", h, zoneName)
		}
	}
	return nil
}

func hostsOf(leaf *x509.Certificate) []string {
	hosts := make([]string, len(leaf.DNSNames))
	for i, h := range leaf.DNSNames {
		hosts[i] = strings.ToLower(h)
	}
	return hosts
}

// signatureOf names the algorithm as Cloudflare's API does.
func signatureOf(leaf *x509.Certificate) string {
	switch leaf.PublicKeyAlgorithm {
	case x509.RSA:
		return "SHA256WithRSA"
	case x509.ECDSA:
		return "ECDSAWithSHA256"
	}
	return leaf.SignatureAlgorithm.String()
}

// NewCertificate makes the row of a certificate that the control plane issued
// itself.
func NewCertificate(lock func(id string, der []byte) (sealed, dataKey []byte, err error), id, chainPEM string, keyDER []byte) (store.Certificate, error) {
	if id == "" {
		id = newID()
	}
	chain, err := readChain(chainPEM)
	if err != nil {
		return store.Certificate{}, err
	}
	sealed, dataKey, err := lock(id, keyDER)
	if err != nil {
		return store.Certificate{}, err
	}
	now := store.Now()
	return store.Certificate{
		Certificate: zone.Certificate{ID: id, Chain: chainPEM, Hosts: hostsOf(chain[0]), Expires: chain[0].NotAfter.UTC(), Sealed: sealed, Managed: true},
		DataKey:     dataKey, Issuer: chain[0].Issuer.CommonName, Signature: signatureOf(chain[0]),
		Bundle: "force", Created: now, Changed: now,
	}, nil
}
