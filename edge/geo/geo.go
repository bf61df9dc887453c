// Package geo tells the country and the network of an address, from MaxMind DB
// files that lie on the node's disk.
//
// A look-up asks nobody, allocates nothing and never fails: what no file knows
// is the zero value. Files are read into memory whole, so replacing or
// truncating one on disk changes nothing until Reload.
package geo

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"

	"github.com/oschwald/maxminddb-golang/v2"
)

// maxFileBytes bounds what one file may take of memory.
const maxFileBytes = 1 << 30

// DB answers from one or more files; for each fact the first file that knows it
// is believed. Its methods may be called from any goroutine.
type DB struct {
	paths   []string
	current atomic.Pointer[[]*maxminddb.Reader] // replaced, never changed
	reload  sync.Mutex                          // held while files are read
	records sync.Pool                           // of *record: decoding takes a pointer, which would be an allocation
}

// Open reads the files. When one is missing or broken the error says which and
// the DB holds the others; it is never nil, and an empty one finds nothing.
func Open(paths ...string) (*DB, error) {
	d := &DB{paths: paths, records: sync.Pool{New: func() any { return new(record) }}}
	d.current.Store(&[]*maxminddb.Reader{})
	return d, d.Reload()
}

// Reload reads the files anew and swaps them in together. On an error the DB
// keeps what it had, unless it had nothing: then what could be read is used.
func (d *DB) Reload() error {
	d.reload.Lock()
	defer d.reload.Unlock()
	var readers []*maxminddb.Reader
	var errs []error
	for _, path := range d.paths {
		r, err := read(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("geo database %s: %w", path, err))
			continue
		}
		readers = append(readers, r)
	}
	if len(errs) == 0 || len(*d.current.Load()) == 0 {
		d.current.Store(&readers)
	}
	return errors.Join(errs...)
}

// Close forgets the files; finds after it know nothing. The memory goes when
// the last look-up under way has ended.
func (d *DB) Close() error {
	d.current.Store(&[]*maxminddb.Reader{})
	return nil
}

func read(path string) (*maxminddb.Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("is larger than %d bytes", maxFileBytes)
	}
	return maxminddb.OpenBytes(data)
}

// record has the fields of the known schemas: those of @ip-location-db at the
// top level, MaxMind's country in a map of its own.
type record struct {
	CountryCode string `maxminddb:"country_code"`
	Country     struct {
		Code string `maxminddb:"iso_code"`
	} `maxminddb:"country"`
	ASN uint32 `maxminddb:"autonomous_system_number"`
}

// Find returns the country as ISO 3166-1 alpha-2, capital letters, and the
// number of the autonomous system; zero what is not known.
func (d *DB) Find(a netip.Addr) (country [2]byte, asn uint32) {
	readers := *d.current.Load()
	if len(readers) == 0 || !a.IsValid() {
		return country, 0
	}
	a = a.Unmap().WithZone("")
	r := d.records.Get().(*record)
	defer d.records.Put(r)
	for _, reader := range readers {
		*r = record{}
		// A record that does not decode is one that this file does not know.
		if reader.Lookup(a).Decode(r) != nil {
			continue
		}
		if country[0] == 0 {
			country = code(r)
		}
		if asn == 0 {
			asn = r.ASN
		}
	}
	return country, asn
}

// code returns two capital letters, or zero for anything else that a file says.
func code(r *record) (c [2]byte) {
	text := r.CountryCode
	if text == "" {
		text = r.Country.Code
	}
	if len(text) != 2 {
		return c
	}
	for i := range c {
		letter := text[i] &^ 0x20
		if letter < 'A' || letter > 'Z' {
			return [2]byte{}
		}
		c[i] = letter
	}
	return c
}
