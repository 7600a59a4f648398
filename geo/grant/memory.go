package grant

import (
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/h3"
)

// ErrMemory is returned for a memory that can't be recalled: of another subject
// or cluster, of another version, or damaged.
var ErrMemory = errors.New("no memory of this subject")

// MaxMemory is more bytes than a Memory can have.
const MaxMemory = 4096

// memoryVersion is the first byte inside of a sealed memory.
const memoryVersion = 1

// Memory returns what a snapper should know again after a restart or on another
// node: the cells it tells, and the places where its subject stayed. It is sealed
// for snappers of the same secret and subject, because those places are as private
// as a Raw is. It is nil if all places were returned already, or were in what was
// recalled; those that are seen again are once a day as if they were new, because
// the ones seen last are kept.
func (s *Snapper) Memory() ([]byte, error) {
	if s.told == nil || !s.told.learned {
		return nil, nil
	}
	plain := []byte{memoryVersion}
	for i := range s.told.level {
		l := &s.told.level[i]
		plain = binary.BigEndian.AppendUint64(plain, uint64(l.told.cell))
		plain = append(plain, byte(len(l.places)))
		for j := range l.places {
			p := &l.places[j]
			// A level decides by the cells of the next finer one. The finest one
			// decides by points, for which a cell of half a metre does.
			spot, err := cellOf(p.point, spotResolution(i))
			if err != nil {
				return nil, fmt.Errorf("memory: %w", err)
			}
			plain = binary.BigEndian.AppendUint64(plain, uint64(spot))
			plain = binary.BigEndian.AppendUint64(plain, uint64(p.told.cell))
			plain = binary.BigEndian.AppendUint32(plain, uint32(p.seen.Unix()/60))
		}
	}
	aead, err := s.aead()
	if err != nil {
		return nil, err
	}
	s.told.learned = false
	for i := range s.told.level {
		for j := range s.told.level[i].places {
			p := &s.told.level[i].places[j]
			p.stored = p.seen
		}
	}
	return aead.Seal(nil, nil, plain, []byte(s.subject)), nil
}

func spotResolution(res int) int {
	if res == MaxResolution {
		return geo.MaxResolution
	}
	return res + 1
}

// Recall takes a Memory that is stored, nil if none is. The first time, that comes
// before anything coarse is told: what was told can't be told otherwise. Later it
// takes what other snappers of the subject have stored meanwhile: the places of
// both, and of a place that both know the cell that is stored, so that all come
// to tell the same. If there is more here than is stored, Memory returns it.
func (s *Snapper) Recall(memory []byte) error {
	stored := new(memories)
	if memory != nil {
		aead, err := s.aead()
		if err != nil {
			return err
		}
		plain, err := aead.Open(nil, nil, memory, []byte(s.subject))
		if err != nil {
			return ErrMemory
		}
		if stored, err = recall(plain); err != nil {
			return err
		}
	} else if s.told == nil {
		return nil
	}
	t := new(told)
	if s.told != nil {
		*t = *s.told
	}
	t.learned = false
	for res := range t.level {
		more, err := t.level[res].merge(&stored[res])
		if err != nil {
			return fmt.Errorf("%w: %w", ErrMemory, err)
		}
		t.learned = t.learned || more
	}
	s.told = t
	return nil
}

// memories are what was stored, by resolution.
type memories [MaxResolution + 1]levelMemory

type levelMemory struct {
	told   geo.Cell
	places []placeMemory
}

type placeMemory struct {
	spot, told geo.Cell
	seen       time.Time
}

// merge takes what was stored of a level, and reports whether there is more here.
func (l *level) merge(stored *levelMemory) (more bool, err error) {
	if !l.known() && stored.told != 0 {
		if l.told, err = newShape(stored.told); err != nil {
			return false, err
		}
	}
	all := slices.Clone(l.places)
	for i := range all {
		all[i].stored = time.Time{}
	}
	for _, m := range stored.places {
		point, err := h3.Center(m.spot)
		if err != nil {
			return false, err
		}
		i, nearest := -1, spot
		for j := range all {
			if d := geo.Distance(all[j].point, point); d <= nearest && all[j].stored.IsZero() {
				i, nearest = j, d
			}
		}
		if i < 0 {
			i = len(all)
			all = append(all, place{})
		}
		p := &all[i]
		p.point, p.stored, p.seen = point, m.seen, later(p.seen, m.seen)
		if p.told.cell != m.told {
			if p.told, err = newShape(m.told); err != nil {
				return false, err
			}
		}
	}
	// All keep the same ones, whatever they had before.
	slices.SortFunc(all, func(a, b place) int {
		return cmp.Or(a.seen.Compare(b.seen), cmp.Compare(a.point.Lat, b.point.Lat), cmp.Compare(a.point.Lng, b.point.Lng))
	})
	l.places = all[max(0, len(all)-maxPlaces):]
	return slices.ContainsFunc(l.places, func(p place) bool { return p.stale() }), nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// recall decodes what Memory sealed.
func recall(b []byte) (*memories, error) {
	if len(b) == 0 || b[0] != memoryVersion {
		return nil, fmt.Errorf("%w: version", ErrMemory)
	}
	b = b[1:]
	bad := false
	cell := func(res int) (c geo.Cell) {
		if len(b) >= 8 {
			c, b = geo.Cell(binary.BigEndian.Uint64(b)), b[8:]
		}
		bad = bad || !c.Valid() || c.Resolution() != res
		return c
	}
	m := new(memories)
	for res := range m {
		m[res].told = cell(res)
		if len(b) == 0 || b[0] > maxPlaces {
			return nil, fmt.Errorf("%w: places", ErrMemory)
		}
		m[res].places, b = make([]placeMemory, b[0]), b[1:]
		for i := range m[res].places {
			p := &m[res].places[i]
			p.spot, p.told = cell(spotResolution(res)), cell(res)
			if len(b) < 4 || bad {
				return nil, fmt.Errorf("%w: a place", ErrMemory)
			}
			p.seen, b = time.Unix(int64(binary.BigEndian.Uint32(b))*60, 0).UTC(), b[4:]
		}
	}
	if len(b) > 0 || bad {
		return nil, fmt.Errorf("%w: more or less than that", ErrMemory)
	}
	return m, nil
}

func (s *Snapper) aead() (cipher.AEAD, error) {
	key := derive(s.secret, "memory of places")
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("memory: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("memory: %w", err)
	}
	return aead, nil
}

// derive makes 32 bytes of the secret for one use.
func derive(secret []byte, use string) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(use))
	return mac.Sum(nil)
}
