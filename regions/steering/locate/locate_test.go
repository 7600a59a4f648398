package locate

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
)

func open(t testing.TB, path string) Locator {
	l, err := Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	return l
}

// Networks of universities and registries, that have been where they are for
// decades.
var known = []struct {
	addr, country string
	at            geo.Point
}{
	{"141.20.1.1", "DE", geo.Point{Lat: 52.5, Lng: 13.4}},        // Humboldt-Universität, Berlin
	{"18.9.22.69", "US", geo.Point{Lat: 42.4, Lng: -71.1}},       // MIT
	{"133.11.0.1", "JP", geo.Point{Lat: 35.7, Lng: 139.8}},       // University of Tokyo
	{"143.107.1.1", "BR", geo.Point{Lat: -23.6, Lng: -46.7}},     // Universidade de São Paulo
	{"137.158.1.1", "ZA", geo.Point{Lat: -33.9, Lng: 18.5}},      // University of Cape Town
	{"130.56.1.1", "AU", geo.Point{Lat: -35.3, Lng: 149.1}},      // Australian National University
	{"2001:638::1", "DE", geo.Point{Lat: 52.5, Lng: 13.4}},       // DFN
	{"2001:4200::1", "ZA", geo.Point{Lat: -26.2, Lng: 28}},       // TENET
	{"2001:200::1", "JP", geo.Point{Lat: 35.7, Lng: 139.8}},      // WIDE
	{"::ffff:141.20.1.1", "DE", geo.Point{Lat: 52.5, Lng: 13.4}}, // the first again
}

func TestBuiltIn(t *testing.T) {
	l := open(t, "")
	for _, k := range known {
		a := netip.MustParseAddr(k.addr)
		p := l.Locate(a)
		require.NotNil(t, p.At, k.addr)
		require.Less(t, geo.Distance(*p.At, k.at), 2_000e3, "%s is at %v", k.addr, *p.At)
		require.Same(t, l.(*table).byCode[k.country], p.At, k.addr)
		require.True(t, p.Prefix.Contains(a.Unmap()), k.addr)
		require.Equal(t, p.Prefix.Masked(), p.Prefix)
	}
	for _, addr := range []string{"10.1.2.3", "127.0.0.1", "192.168.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "::", "::1", "fe80::1%eth0", "fd00::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"} {
		p := l.Locate(netip.MustParseAddr(addr))
		require.Nil(t, p.At, addr)
		require.True(t, p.Prefix.IsValid(), addr)
	}
	require.Equal(t, Place{}, l.Locate(netip.Addr{}))
}

// The prefix is right and the widest: every address in it is in the same piece,
// and one bit shorter is not; and two of them are equal or disjoint.
func TestPrefixesOfTheTable(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		// A small table, so that all of it can be looked at.
		const size = 10
		c := changes{at: []uint64{0}, country: []byte{byte(r.IntN(3))}}
		for at := uint64(0); ; {
			at += 1 + uint64(r.IntN(60))
			if at >= 1<<size {
				break
			}
			c.at, c.country = append(c.at, at), append(c.country, byte(r.IntN(3)))
		}
		piece := make([]int, 1<<size)
		for i, at := range c.at {
			for k := at; k < 1<<size; k++ {
				piece[k] = i
			}
		}
		for key := range uint64(1 << size) {
			country, prefix := c.find(key, size)
			require.Equal(t, c.country[piece[key]], country)
			same := func(prefix int) bool {
				first := key &^ (1<<(size-prefix) - 1)
				for k := first; k < first+1<<(size-prefix); k++ {
					if piece[k] != piece[key] {
						return false
					}
				}
				return true
			}
			require.True(t, same(prefix), "key %d, prefix %d, changes %v", key, prefix, c.at)
			require.True(t, prefix == 0 || !same(prefix-1), "key %d, prefix %d could be wider", key, prefix)
		}
	}
	l := open(t, "")
	for range 20000 {
		a := randomAddr(r)
		p := l.Locate(a)
		in := p.Prefix.Addr()
		require.Equal(t, p, l.Locate(in), "%v", a)
		if b := randomAddr(r); b.BitLen() == a.BitLen() {
			q := l.Locate(b)
			require.True(t, p.Prefix == q.Prefix || !p.Prefix.Overlaps(q.Prefix))
		}
	}
}

func randomAddr(r *rand.Rand) netip.Addr {
	if r.IntN(2) == 0 {
		v := r.Uint32()
		return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
	}
	b := [16]byte{0: 0x20 | byte(r.IntN(32))}
	for i := 1; i < 16; i++ {
		b[i] = byte(r.Uint32())
	}
	return netip.AddrFrom16(b)
}

func TestDamagedTable(t *testing.T) {
	_, err := readTable(nil)
	require.ErrorIs(t, err, errTable)
	_, err = readTable(packed[:len(packed)/2])
	require.ErrorIs(t, err, errTable)
	require.Less(t, len(packed), 2<<20)
}

// City file, country file, and one that has neither.
func TestMaxMindFile(t *testing.T) {
	w, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "Test-City", RecordSize: 24, IncludeReservedNetworks: true})
	require.NoError(t, err)
	insert := func(prefix string, v mmdbtype.DataType) {
		_, p, err := net.ParseCIDR(prefix)
		require.NoError(t, err)
		require.NoError(t, w.Insert(p, v))
	}
	at := func(lat, lng float64) mmdbtype.Map {
		return mmdbtype.Map{"location": mmdbtype.Map{"latitude": mmdbtype.Float64(lat), "longitude": mmdbtype.Float64(lng)}}
	}
	insert("198.51.100.0/24", at(37.3, -121.9))
	insert("198.51.100.128/26", at(38.9, -77.4))
	insert("203.0.113.0/24", mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String("JP")}})
	insert("192.0.2.0/24", mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String("??")}})
	insert("2001:db8::/32", at(0, 0))
	insert("2001:db9::/32", at(1000, 0))
	path := filepath.Join(t.TempDir(), "test.mmdb")
	f, err := os.Create(path)
	require.NoError(t, err)
	_, err = w.WriteTo(f)
	require.NoError(t, err)
	require.NoError(t, f.Close())

	l := open(t, path)
	for _, c := range []struct {
		addr   string
		at     *geo.Point
		prefix string
	}{
		{"198.51.100.1", &geo.Point{Lat: 37.3, Lng: -121.9}, "198.51.100.0/25"},
		{"198.51.100.130", &geo.Point{Lat: 38.9, Lng: -77.4}, "198.51.100.128/26"},
		{"198.51.100.200", &geo.Point{Lat: 37.3, Lng: -121.9}, "198.51.100.192/26"},
		{"203.0.113.9", &geo.Point{Lat: 35.65, Lng: 139.74}, "203.0.113.0/24"},
		{"192.0.2.1", nil, "192.0.2.0/24"},
		{"2001:db8:1::", &geo.Point{}, "2001:db8::/32"},
		{"2001:db9:1::", nil, "2001:db9::/32"},
		{"::ffff:198.51.100.1", &geo.Point{Lat: 37.3, Lng: -121.9}, "198.51.100.0/25"},
	} {
		p := l.Locate(netip.MustParseAddr(c.addr))
		require.Equal(t, c.at, p.At, c.addr)
		require.Equal(t, c.prefix, p.Prefix.String(), c.addr)
	}
	require.Nil(t, l.Locate(netip.MustParseAddr("8.8.8.8")).At)
	require.True(t, l.Locate(netip.MustParseAddr("8.8.8.8")).Prefix.IsValid())

	_, err = Open(filepath.Join(t.TempDir(), "none.mmdb"))
	require.Error(t, err)
}

func TestLocateDoesNotAllocate(t *testing.T) {
	l := open(t, "")
	a, b := netip.MustParseAddr("141.20.1.1"), netip.MustParseAddr("2001:638::1")
	require.Zero(t, testing.AllocsPerRun(1000, func() { l.Locate(a); l.Locate(b) }))
}

func BenchmarkLocate(b *testing.B) {
	l := open(b, "")
	r := rand.New(rand.NewPCG(1, 2))
	addrs := make([]netip.Addr, 4096)
	for i := range addrs {
		addrs[i] = randomAddr(r)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		l.Locate(addrs[i%len(addrs)])
	}
}
