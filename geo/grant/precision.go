package grant

import (
	"fmt"
	"strconv"
	"strings"
)

// Precision says how finely an audience may see a position. Precisions are
// ordered: the finer, the greater, so the coarser of two is their min, and what
// was never set is None.
type Precision uint8

const (
	None  Precision = 0                 // nothing at all; not a precision that a grant can have
	Exact Precision = MaxResolution + 2 // as the device reported it
)

// MaxResolution is the finest H3 resolution of a coarse precision: cells of
// about 75 m radius. Below that GPS itself is the coarser of the two.
const MaxResolution = 10

// Cells returns the precision of H3 cells of a resolution from 0 to
// MaxResolution, None outside of it.
func Cells(resolution int) Precision {
	if resolution < 0 || resolution > MaxResolution {
		return None
	}
	return Precision(resolution + 1)
}

// Resolution returns the H3 resolution of a coarse precision.
func (p Precision) Resolution() (int, bool) {
	if p == None || p >= Exact {
		return 0, false
	}
	return int(p) - 1, true
}

// Coarser reports whether p shows less than q.
func (p Precision) Coarser(q Precision) bool { return p < q }

// String is "exact", "r7" for the cells of resolution 7, or "none".
func (p Precision) String() string {
	switch r, ok := p.Resolution(); {
	case ok:
		return "r" + strconv.Itoa(r)
	case p == Exact:
		return "exact"
	default:
		return "none"
	}
}

// ParsePrecision reads "exact" or "r0" to "r10".
func ParsePrecision(s string) (Precision, error) {
	if s == "exact" {
		return Exact, nil
	}
	if n, ok := strings.CutPrefix(s, "r"); ok {
		// Only the form that String writes: "r07" and "r+7" would be names of r7
		// that no comparison of texts knows.
		if r, err := strconv.Atoi(n); err == nil && strconv.Itoa(r) == n {
			if p := Cells(r); p != None {
				return p, nil
			}
		}
	}
	return None, fmt.Errorf("precision %.16q: want \"exact\" or \"r0\" to \"r%d\"", s, MaxResolution)
}

// MarshalText is String; None has no text, since nobody is granted it.
func (p Precision) MarshalText() ([]byte, error) {
	if p == None || p > Exact {
		return nil, fmt.Errorf("precision %d has no text", uint8(p))
	}
	return []byte(p.String()), nil
}

func (p *Precision) UnmarshalText(b []byte) error {
	q, err := ParsePrecision(string(b))
	if err != nil {
		return err
	}
	*p = q
	return nil
}
