package control

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/selvage-edge/selvage/control/store"
	"github.com/selvage-edge/selvage/internal/atomicfile"
)

const (
	fileReady = "control.json"
	fileToken = "token"
	fileLock  = "control.lock"
	// rootToken is the name of the token that the first start makes.
	rootToken = "root"
)

// lock keeps a second control plane out of a state folder. The kernel drops it
// with the process.
type lock struct{ file *os.File }

func lockState(dir string) (*lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make state folder: %w", err)
	}
	path := filepath.Join(dir, fileLock)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the operator's own state folder
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errors.Join(fmt.Errorf("another control plane runs in %s; stop it or use another state folder", dir), f.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return &lock{f}, nil
}

// LockState keeps control planes out of a state folder until release is called;
// one that runs in it is an error.
func LockState(dir string) (release func() error, err error) {
	l, err := lockState(dir)
	if err != nil {
		return nil, err
	}
	return l.release, nil
}

func (l *lock) release() error { return l.file.Close() }

// readyFile is control.json: where a running control plane is reached.
type readyFile struct {
	Ready     bool   `json:"ready"`
	PID       int    `json:"pid"`
	API       string `json:"api"`
	Feed      string `json:"feed"`
	TokenFile string `json:"token_file"`
	NodeCA    string `json:"node_ca"`
	SiteCA    string `json:"site_ca"`

	path string
}

func (c *Control) readyFile(apiAddr, feedAddr net.Addr) *readyFile {
	return &readyFile{
		Ready: true, PID: os.Getpid(), API: "http://" + apiAddr.String() + "/client/v4", Feed: feedAddr.String(),
		TokenFile: filepath.Join(c.cfg.State, fileToken), NodeCA: c.authority.NodeCAPath(), SiteCA: c.authority.SiteCAPath(),
		path: filepath.Join(c.cfg.State, fileReady),
	}
}

func (f *readyFile) write() error {
	b, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode %s: %w", fileReady, err)
	}
	return atomicfile.Write(f.path, append(b, '\n'), 0o644)
}

func (f *readyFile) remove() error {
	if err := os.Remove(f.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", fileReady, err)
	}
	return nil
}

// sameAuthority refuses a database that belongs to other authorities: nodes
// would trust one of two control planes, and neither could open the other's keys.
func (c *Control) sameAuthority(ctx context.Context) error {
	ours, stored := c.authority.Fingerprint(), ""
	if err := c.store.Write(ctx, func(tx *store.Tx) (err error) {
		stored, err = tx.Fact(ctx, "authority", ours)
		return err
	}); err != nil {
		return err
	}
	if stored != ours {
		return fmt.Errorf("the database %s belongs to a control plane with another identity; copy the folder identity of that one's state folder to %s",
			c.store.Place(), filepath.Join(c.cfg.State, "identity"))
	}
	return nil
}

// firstStart makes the account and the root token. The token's file is written
// before its hash is stored: a crash in between leaves a file that the next
// start replaces. A lost or emptied file is replaced by a new token; the one
// before stays good where it may be another control plane's.
func (c *Control) firstStart(ctx context.Context) error {
	path := filepath.Join(c.cfg.State, fileToken)
	var accounts []store.Account
	known := false
	if err := c.store.Read(ctx, func(tx *store.Tx) (err error) {
		known, err = tx.HasToken(ctx, rootToken)
		return err
	}); err != nil {
		return err
	}
	text, err := os.ReadFile(path) //nolint:gosec // the operator's own state folder
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read token: %w", err)
	}
	if known && strings.TrimSpace(string(text)) != "" {
		return nil
	}
	if known {
		c.log.Warn("the token file is missing or empty, making a new root token", "file", path)
	}
	secret := newSecret()
	if err := atomicfile.Write(path, []byte(secret+"\n"), 0o600); err != nil {
		return fmt.Errorf("write token: %w", err)
	}
	return c.store.Write(ctx, func(tx *store.Tx) error {
		if err := tx.Lock(ctx, "accounts"); err != nil {
			return err
		}
		now := store.Now()
		if accounts, err = tx.Accounts(ctx); err != nil {
			return err
		}
		if len(accounts) == 0 {
			accounts = []store.Account{{ID: newID(), Name: "Default account", Created: now}}
			if err := tx.PutAccount(ctx, accounts[0]); err != nil {
				return err
			}
		}
		if !c.store.Shared() {
			if err := tx.DropTokens(ctx, rootToken); err != nil {
				return err
			}
		}
		token := store.Token{ID: newID(), Account: accounts[0].ID, Name: rootToken, Status: "active", Created: now}
		return tx.PutToken(ctx, token, store.HashToken(secret))
	})
}

// newSecret is 256 random bits in the letters that need no quoting.
func newSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}
