// Package pair keeps the private keys of certificates on an edge. A pair of
// chain and key stays on disk as it came, sealed to this node, and is opened in
// memory only. It promises that a chain is never served with another pair's
// key, that a pair is kept only when it was asked for, is the one that was
// named and this node can use it, and that what is missing is fetched: in the
// background within bounds, and at once for a handshake that needs it.
package pair

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/selvage-edge/selvage/feed"
	"github.com/selvage-edge/selvage/internal/atomicfile"
)

// files is one folder of pairs, a file each: at <2 hex>/<2 hex>/<id>.<sum>.
type files struct{ dir string }

const (
	// sumDigits of a sum are in a file's name; the file's content is compared
	// with all of it.
	sumDigits = 32
	maxFile   = 128 << 10
)

func (f files) folder(id string) string {
	sum := sha256.Sum256([]byte(id))
	return filepath.Join(f.dir, hex.EncodeToString(sum[:1]), hex.EncodeToString(sum[1:2]))
}

func (f files) path(ref feed.PairRef) string {
	return filepath.Join(f.folder(ref.ID), ref.ID+"."+ref.Sum.String()[:sumDigits])
}

// has reports whether there is a file of that name.
func (f files) has(ref feed.PairRef) bool {
	_, err := os.Stat(f.path(ref))
	return err == nil
}

// get reads a pair; fs.ErrNotExist is in the chain where it is not there. A
// damaged file is removed, for a pair can be had again.
func (f files) get(ref feed.PairRef) (*feed.Pair, error) {
	return f.read(f.path(ref), ref.ID, ref.Sum.String())
}

// read reads the file of a certificate's pair whose sum begins as given.
func (f files) read(path, id, sum string) (*feed.Pair, error) {
	file, err := os.Open(path) //nolint:gosec // in the edge's own state folder; ids are checked
	if err != nil {
		return nil, fmt.Errorf("read pair: %w", err)
	}
	defer func() { _ = file.Close() }()
	buf := make([]byte, maxFile+1)
	n := 0
	for err == nil && n < len(buf) {
		var more int
		more, err = file.Read(buf[n:])
		n += more
	}
	pair, err := feed.DecodePair(buf[:n])
	if err == nil && (pair.ID != id || !strings.HasPrefix(pair.Ref().Sum.String(), sum)) {
		err = errors.New("it holds another pair")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read pair %s: %w: %w", path, fs.ErrNotExist, err), os.Remove(path))
	}
	return pair, nil
}

// put writes a pair, durably.
func (f files) put(p *feed.Pair) error {
	path := f.path(p.Ref())
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keep pair: %w", err)
	}
	return atomicfile.Write(path, p.Append(nil), 0o600)
}

// others lists the files of a certificate's other pairs.
func (f files) others(ref feed.PairRef) (paths []string) {
	folder := f.folder(ref.ID)
	list, err := os.ReadDir(folder)
	if err != nil {
		return nil // there are none
	}
	for _, e := range list {
		path := filepath.Join(folder, e.Name())
		if strings.HasPrefix(e.Name(), ref.ID+".") && path != f.path(ref) {
			paths = append(paths, path)
		}
	}
	return paths
}

// older returns a certificate's other pair that is there; nil for none.
func (f files) older(ref feed.PairRef) *feed.Pair {
	for _, path := range f.others(ref) {
		_, sum, _ := strings.Cut(filepath.Base(path), ".")
		if p, err := f.read(path, ref.ID, sum); err == nil {
			return p
		}
	}
	return nil
}

// prune removes a certificate's pairs but the ones named.
func (f files) prune(id string, keep ...feed.PairRef) error {
	var failed []error
	for _, path := range f.others(feed.PairRef{ID: id}) {
		wanted := false
		for _, ref := range keep {
			wanted = wanted || path == f.path(ref)
		}
		if !wanted {
			failed = append(failed, os.Remove(path))
		}
	}
	return errors.Join(failed...)
}

// belongs says why a key (PKCS#8) is not that of a chain's leaf; nil where it
// is.
func belongs(chain string, der []byte) error {
	block, _ := pem.Decode([]byte(chain))
	if block == nil {
		return errors.New("the chain is not PEM")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("the chain's leaf: %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return errors.New("the key is not PKCS#8") // the cause could quote it
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return errors.New("the key cannot sign")
	}
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(leaf.PublicKey) {
		return errors.New("the key does not belong to the chain")
	}
	return nil
}
