// Package locate tells where on Earth an address is: from a file in MaxMind's
// format if there is one (city, with coordinates, or country), else from a
// coarse table of countries that is part of the binary.
//
// # The table
//
// countries.bin.gz says for each /24 of IPv4 and each /48 of IPv6 in which
// country it is; NOTICE.md names its sources and their licences, and
// tools/locations makes it anew. A country stands for the place where most of
// its people are, or at least most of those of one of its time zones: enough to
// find the nearest of a few regions, not enough to tell the coasts of the United
// States apart. Operators who have that problem give a city file.
//
// Unpacked it is two sorted lists of places at which the country changes, looked
// up by binary search. Its form: one byte, the number of countries; for each two
// letters and the latitude and longitude in hundredths of degrees (int16, big
// endian); then for IPv4 and for IPv6 the number of changes (varint), the
// distance of each from the one before (varint), and the country after it (a
// byte; 0: none).
//
// # Prefixes
//
// Every answer comes with the widest prefix that holds the address and is in
// one piece of the table, unknown ones included. Two of these are equal or
// disjoint, never nested: the widest prefix of a piece that holds one of two
// addresses is that of the other, too, if it holds both. So they can be the
// scopes of DNS answers (RFC 7871 section 7.2.1).
package locate

import (
	"bytes"
	"cmp"
	"compress/gzip"
	_ "embed" // of the table
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net/netip"
	"slices"
	"sync"

	"github.com/oschwald/maxminddb-golang/v2"

	"github.com/mustermesh/muster/geo"
)

// Place is what is known of an address.
type Place struct {
	At     *geo.Point   // nil: nothing. Not to be changed
	Prefix netip.Prefix // all addresses of it are in the same place
}

// Locator finds places. It is safe for concurrent use.
type Locator interface {
	// Locate of an address that is IPv4 in the form of IPv6 is that of the IPv4
	// address, and so is its prefix.
	Locate(netip.Addr) Place
	io.Closer
}

//go:embed countries.bin.gz
var packed []byte

// Open reads a file in MaxMind's format, or the built-in table if path is empty.
func Open(path string) (Locator, error) {
	table, err := readTable(packed)
	if err != nil || path == "" {
		return table, err
	}
	db, err := maxminddb.Open(path)
	if err != nil {
		return nil, fmt.Errorf("locations: %s: %w", path, err)
	}
	return &file{db: db, countries: table.byCode}, nil
}

// table is the built-in one.
type table struct {
	places []*geo.Point // by number of the country; 0: nil
	byCode map[string]*geo.Point
	v4, v6 changes
}

// changes are the first addresses of pieces, ascending, with what is in them.
type changes struct {
	at      []uint64
	country []byte
}

const (
	v4Bits = 24 // of an address count
	v6Bits = 48
)

var errTable = errors.New("locations: the built-in table is damaged")

func readTable(packed []byte) (*table, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, errors.Join(errTable, err)
	}
	b, err := io.ReadAll(z)
	if err != nil || len(b) == 0 {
		return nil, errors.Join(errTable, err)
	}
	n := int(b[0])
	t := &table{places: make([]*geo.Point, n+1), byCode: make(map[string]*geo.Point, n)}
	if b = b[1:]; len(b) < 6*n {
		return nil, errTable
	}
	for i := range n {
		at := &geo.Point{
			Lat: float64(int16(binary.BigEndian.Uint16(b[2:]))) / 100,
			Lng: float64(int16(binary.BigEndian.Uint16(b[4:]))) / 100,
		}
		t.places[i+1], t.byCode[string(b[:2])] = at, at
		b = b[6:]
	}
	for _, into := range []*changes{&t.v4, &t.v6} {
		count, k := binary.Uvarint(b)
		if b = b[max(k, 0):]; k <= 0 || count == 0 || count > uint64(len(b)) {
			return nil, errTable
		}
		into.at = make([]uint64, count)
		var last uint64
		for i := range into.at {
			step, k := binary.Uvarint(b)
			if b = b[max(k, 0):]; k <= 0 {
				return nil, errTable
			}
			last += step
			into.at[i] = last
		}
		if uint64(len(b)) < count {
			return nil, errTable
		}
		into.country = slices.Clone(b[:count])
		b = b[count:]
		if into.at[0] != 0 || int(slices.Max(into.country)) > n {
			return nil, errTable
		}
	}
	return t, nil
}

func (t *table) Close() error { return nil }

func (t *table) Locate(a netip.Addr) Place {
	a = a.Unmap().WithZone("")
	if a.Is4() {
		b := a.As4()
		c, wide := t.v4.find(uint64(binary.BigEndian.Uint32(b[:])>>(32-v4Bits)), v4Bits)
		return Place{t.places[c], netip.PrefixFrom(a, wide).Masked()}
	}
	if !a.Is6() {
		return Place{}
	}
	b := a.As16()
	c, wide := t.v6.find(binary.BigEndian.Uint64(b[:8])>>(64-v6Bits), v6Bits)
	return Place{t.places[c], netip.PrefixFrom(a, wide).Masked()}
}

// find returns the country of key, and the length of the widest prefix around it
// that is in the same piece. key has size bits.
func (c *changes) find(key uint64, size int) (country byte, prefix int) {
	i, exact := slices.BinarySearch(c.at, key)
	if !exact {
		i--
	}
	first, last := c.at[i], uint64(1)<<size-1
	if i+1 < len(c.at) {
		last = c.at[i+1] - 1
	}
	// A prefix of n bits holds first or reaches below it when key and first-1
	// agree in n bits: it must be longer than what key shares with either
	// neighbour of the piece.
	if first > 0 {
		prefix = size - bits.Len64(key^(first-1)) + 1
	}
	if last < uint64(1)<<size-1 {
		prefix = max(prefix, size-bits.Len64(key^(last+1))+1)
	}
	return c.country[i], prefix
}

// file is one in MaxMind's format.
type file struct {
	db        *maxminddb.Reader
	countries map[string]*geo.Point
	places    sync.Map // offset of the record (uintptr) -> *geo.Point; as many as the file has
}

func (f *file) Close() error { return f.db.Close() }

func (f *file) Locate(a netip.Addr) Place {
	a = a.Unmap().WithZone("")
	r := f.db.Lookup(a)
	if r.Err() != nil { // an IPv6 address in a file of IPv4, or no address
		if !a.IsValid() {
			return Place{}
		}
		return Place{Prefix: netip.PrefixFrom(a, 0).Masked()}
	}
	p := Place{Prefix: r.Prefix()}
	if !r.Found() {
		return p
	}
	at, known := f.places.Load(r.Offset())
	if !known {
		at, _ = f.places.LoadOrStore(r.Offset(), f.read(r))
	}
	p.At = at.(*geo.Point)
	return p
}

// read is where a record says that it is; nil if it doesn't.
func (f *file) read(r maxminddb.Result) *geo.Point {
	var record struct {
		Country struct {
			Code string `maxminddb:"iso_code"`
		} `maxminddb:"country"`
		Registered struct {
			Code string `maxminddb:"iso_code"`
		} `maxminddb:"registered_country"`
		Location struct {
			Lat *float64 `maxminddb:"latitude"`
			Lng *float64 `maxminddb:"longitude"`
		} `maxminddb:"location"`
		Code string `maxminddb:"country_code"` // as ip-location-db's files have it
	}
	if r.Decode(&record) != nil {
		return nil
	}
	if l := record.Location; l.Lat != nil && l.Lng != nil {
		if at := (geo.Point{Lat: *l.Lat, Lng: *l.Lng}); at.Valid() {
			return &at
		}
	}
	return f.countries[cmp.Or(record.Country.Code, record.Registered.Code, record.Code)]
}
