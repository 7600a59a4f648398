// Command locations makes the table that regions/steering/locate embeds: which
// network is in which country, and where a country's people are. update.sh
// fetches its sources and runs it; the table's form is described in
// regions/steering/locate.
package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/csv"
	"errors"
	"flag"
	"io"
	"log"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// zoneOf are the countries whose first line in zone.tab is not where most of
// their people are: the file orders those by geography.
var zoneOf = map[string]string{
	"AU": "Australia/Sydney", "BR": "America/Sao_Paulo", "CA": "America/Toronto", "CL": "America/Santiago",
	"RU": "Europe/Moscow", "UZ": "Asia/Tashkent",
}

// reserved networks are nowhere (IANA's special-purpose registries), though the
// source has some of them in a country.
var reserved = []string{
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "224.0.0.0/3",
	"::/8", "2001:db8::/32", "2002::/16", "3fff::/20", "4000::/2", "8000::/1",
}

func main() {
	log.SetFlags(0)
	v4 := flag.String("v4", "", "geo-whois-asn-country-ipv4.csv")
	v6 := flag.String("v6", "", "asn-country-ipv6.csv")
	zones := flag.String("zones", "/usr/share/zoneinfo/zone.tab", "zone.tab of the time zone database")
	out := flag.String("out", "", "file to write")
	flag.Parse()
	if err := run(*v4, *v6, *zones, *out); err != nil {
		log.Fatal("locations: ", err)
	}
}

func run(v4, v6, zones, out string) error {
	places, err := readZones(zones)
	if err != nil {
		return err
	}
	codes := []string{"ZZ"} // 0: nobody knows
	index := map[string]byte{}
	for code := range places {
		codes = append(codes, code)
	}
	slices.Sort(codes[1:])
	if len(codes) > 256 {
		return errors.New("more than 255 countries")
	}
	for i, code := range codes {
		index[code] = byte(i)
	}

	var b bytes.Buffer
	b.WriteByte(byte(len(codes) - 1))
	for _, code := range codes[1:] {
		b.WriteString(code)
		for _, degrees := range places[code] {
			_ = binary.Write(&b, binary.BigEndian, int16(degrees*100))
		}
	}
	for _, f := range []struct {
		file    string
		shift   uint // of the first 64 bits of an address, IPv4 in the upper half
		fill    uint64
		between string
	}{
		{v4, 64 - 24, 16, "IPv4 by /24"},
		{v6, 64 - 48, 1 << 16, "IPv6 by /48"},
	} {
		ranges, err := readRanges(f.file, f.shift, index)
		if err != nil {
			return err
		}
		n := len(ranges)
		ranges = merge(ranges, f.fill)
		for _, r := range reserved {
			if p := netip.MustParsePrefix(r); p.Addr().Is4() == (f.file == v4) {
				first, _ := number(p.Addr().String())
				first >>= f.shift
				ranges = cut(ranges, first, first+1<<(64-int(f.shift)-p.Bits()))
			}
		}
		log.Printf("%s: %d ranges, %d changes of country", f.between, n, len(ranges))
		writeRanges(&b, ranges)
	}

	var packed bytes.Buffer
	z, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	_, _ = z.Write(b.Bytes())
	if err := z.Close(); err != nil {
		return err
	}
	log.Printf("%d bytes, %d packed", b.Len(), packed.Len())
	return os.WriteFile(out, packed.Bytes(), 0o644)
}

// readZones returns latitude and longitude per country.
func readZones(path string) (map[string][2]float64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	places := map[string][2]float64{}
	for s := bufio.NewScanner(f); s.Scan(); {
		cols := strings.Split(s.Text(), "\t")
		if strings.HasPrefix(s.Text(), "#") || len(cols) < 3 {
			continue
		}
		code := cols[0]
		if _, ok := places[code]; ok && zoneOf[code] != cols[2] {
			continue
		}
		at := strings.LastIndexAny(cols[1], "+-")
		lat, lng := sexagesimal(cols[1][:at], 2), sexagesimal(cols[1][at:], 3)
		places[code] = [2]float64{lat, lng}
	}
	// Kosovo is in the networks' table and has no code in ISO 3166.
	places["XK"] = [2]float64{42.66, 21.17}
	return places, nil
}

// sexagesimal reads ±DDMM, ±DDMMSS, ±DDDMM or ±DDDMMSS.
func sexagesimal(s string, digits int) float64 {
	number := func(s string) float64 {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			log.Fatalf("coordinates %q: %v", s, err)
		}
		return v
	}
	v := number(s[1:1+digits]) + number(s[1+digits:3+digits])/60
	if rest := s[3+digits:]; rest != "" {
		v += number(rest) / 3600
	}
	if s[0] == '-' {
		return -v
	}
	return v
}

// span is the addresses from a start, in units, to before the end.
type span struct {
	start, end uint64
	country    byte
}

// readRanges reads "first,last,code" lines in ascending order. A unit that
// several countries share is the one's that has the larger part of it; of what
// two lines both claim, the first has it.
func readRanges(path string, shift uint, index map[string]byte) ([]span, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var spans []span
	part := map[byte]uint64{} // of the unit, by country
	var unit, done uint64
	settle := func() {
		var best byte
		for c, n := range part {
			if n > part[best] || n == part[best] && c < best {
				best = c
			}
		}
		if best != 0 {
			spans = append(spans, span{unit, unit + 1, best})
		}
		clear(part)
	}
	r := csv.NewReader(f)
	r.ReuseRecord = true
	for {
		line, err := r.Read()
		if errors.Is(err, io.EOF) {
			settle()
			return spans, nil
		}
		if err != nil {
			return nil, err
		}
		first, err := number(line[0])
		if err != nil {
			return nil, err
		}
		last, err := number(line[1])
		if err != nil {
			return nil, err
		}
		if strings.Contains(line[1], ".") {
			last |= 1<<32 - 1
		}
		c, ok := index[line[2]]
		if !ok { // an island where nobody lives, and no time zone is kept
			continue
		}
		if first = max(first, done); first > last {
			continue
		}
		done = last + 1
		size := uint64(1) << shift
		for first <= last {
			u := first >> shift
			if u != unit {
				settle()
				unit = u
			}
			end := u<<shift + size // of the unit
			if first == u<<shift && last >= end-1 {
				// Whole units, as many as there are.
				n := (last + 1 - first) >> shift
				spans = append(spans, span{u, u + n, c})
				if end = (u + n) << shift; end == 0 {
					return spans, nil
				}
				unit = u + n
			} else {
				part[c] += min(last+1, end) - first
			}
			first = end
		}
	}
}

// number is the first 64 bits of an address, those of IPv4 in the upper half.
func number(s string) (uint64, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return 0, err
	}
	if a.Is4() {
		b := a.As4()
		return uint64(binary.BigEndian.Uint32(b[:])) << 32, nil
	}
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8]), nil
}

// merge makes one of neighbours in the same country, and of those with a gap of
// up to fill units between them: what is in the gap is not in use.
func merge(spans []span, fill uint64) []span {
	var out []span
	for _, s := range spans {
		if n := len(out); n > 0 && out[n-1].country == s.country && s.start-out[n-1].end <= fill {
			out[n-1].end = s.end
			continue
		}
		out = append(out, s)
	}
	return out
}

// cut takes the units from first to before end out of spans.
func cut(spans []span, first, end uint64) []span {
	var out []span
	for _, s := range spans {
		if a := (span{s.start, min(s.end, first), s.country}); a.start < a.end {
			out = append(out, a)
		}
		if b := (span{max(s.start, end), s.end, s.country}); b.start < b.end {
			out = append(out, b)
		}
	}
	return out
}

// writeRanges writes where the country changes: the number of changes, then the
// distances between them, then the countries.
func writeRanges(b *bytes.Buffer, spans []span) {
	var starts []uint64
	var countries []byte
	change := func(at uint64, c byte) {
		if n := len(starts); n > 0 && countries[n-1] == c {
			return
		}
		starts, countries = append(starts, at), append(countries, c)
	}
	change(0, 0)
	for i, s := range spans {
		if s.start == 0 {
			starts, countries = nil, nil
		}
		change(s.start, s.country)
		if i+1 == len(spans) || spans[i+1].start > s.end {
			change(s.end, 0)
		}
	}
	varint := func(v uint64) { b.Write(binary.AppendUvarint(nil, v)) }
	varint(uint64(len(starts)))
	var last uint64
	for _, s := range starts {
		varint(s - last)
		last = s
	}
	b.Write(countries)
}
