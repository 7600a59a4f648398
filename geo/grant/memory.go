package grant

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/h3"
)

// ErrMemory is returned for a memory that can't be recalled: of another subject
// or cluster, of another version, damaged, or too late.
var ErrMemory = errors.New("no memory of this subject")

// memoryVersion is the first byte inside of a sealed memory.
const memoryVersion = 1

// Memory returns what a snapper should know again after a restart or on another
// node: the cells it tells, and the places where its subject stayed. It is sealed
// for snappers of the same secret and subject, because those places are as private
// as a Raw is. It is nil if no place was added since it was returned last.
func (s *Snapper) Memory() ([]byte, error) {
	if s.told == nil || !s.told.learned {
		return nil, nil
	}
	plain := []byte{memoryVersion}
	for i := range s.told.level {
		l := &s.told.level[i]
		plain = binary.BigEndian.AppendUint64(plain, uint64(l.told.cell))
		plain = append(plain, byte(len(l.places)))
		for _, p := range l.places {
			// A level decides by the cells of the next finer one. The finest one
			// decides by points, for which a cell of half a metre does.
			spot, err := cellOf(p.point, spotResolution(i))
			if err != nil {
				return nil, fmt.Errorf("memory: %w", err)
			}
			plain = binary.BigEndian.AppendUint64(plain, uint64(spot))
			plain = binary.BigEndian.AppendUint64(plain, uint64(p.told.cell))
		}
	}
	aead, err := s.aead()
	if err != nil {
		return nil, err
	}
	s.told.learned = false
	return aead.Seal(nil, nil, plain, []byte(s.subject)), nil
}

func spotResolution(res int) int {
	if res == MaxResolution {
		return geo.MaxResolution
	}
	return res + 1
}

// Recall takes a Memory. It comes before anything coarse was told: what was told
// can't be told otherwise.
func (s *Snapper) Recall(memory []byte) error {
	if s.told != nil {
		return fmt.Errorf("%w: it tells already", ErrMemory)
	}
	aead, err := s.aead()
	if err != nil {
		return err
	}
	plain, err := aead.Open(nil, nil, memory, []byte(s.subject))
	if err != nil {
		return ErrMemory
	}
	t, err := recall(plain)
	if err != nil {
		return err
	}
	s.told = t
	return nil
}

// recall decodes what Memory sealed.
func recall(b []byte) (*told, error) {
	if len(b) == 0 || b[0] != memoryVersion {
		return nil, fmt.Errorf("%w: version", ErrMemory)
	}
	b = b[1:]
	cell := func(res int) (c geo.Cell) {
		if len(b) >= 8 {
			c, b = geo.Cell(binary.BigEndian.Uint64(b)), b[8:]
		}
		if !c.Valid() || c.Resolution() != res {
			return 0
		}
		return c
	}
	t := new(told)
	for res := range t.level {
		var err error
		l := &t.level[res]
		if l.told, err = newShape(cell(res)); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMemory, err)
		}
		if len(b) == 0 || b[0] > maxPlaces {
			return nil, fmt.Errorf("%w: places", ErrMemory)
		}
		l.places, b = make([]place, b[0]), b[1:]
		for i := range l.places {
			p := &l.places[i]
			if p.point, err = h3.Center(cell(spotResolution(res))); err != nil {
				return nil, fmt.Errorf("%w: %w", ErrMemory, err)
			}
			if p.told, err = newShape(cell(res)); err != nil {
				return nil, fmt.Errorf("%w: %w", ErrMemory, err)
			}
		}
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("%w: more than that", ErrMemory)
	}
	return t, nil
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
