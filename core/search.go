package core

import (
	"encoding/base64"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
	"golang.org/x/text/secure/precis"

	"github.com/mustermesh/muster/internal/errs"
)

// People and groups are found by how their names begin, or how one of the words
// in them does. A name is stored under its terms: itself, and the rest of it from
// each later word on. Terms are compared as bytes, which sort the same in every
// database, so all that begin with something are one range of an index.

// ErrBadQuery is for what can't be searched for.
var ErrBadQuery = errs.New(errs.Invalid, "bad_query", "search for at least 2 letters or digits of how a name begins").At("query.q")

const (
	maxTerm  = 64 // bytes
	maxTerms = 8  // of a name: the words after that are not searched
	minQuery = 2  // characters
)

// SearchTerms returns under what a name is found, itself first, all different.
func SearchTerms(name string) (terms [][]byte) {
	key := searchKey(name)
	for key != "" && len(terms) < maxTerms {
		term := []byte(key[:min(len(key), maxTerm)])
		if !slices.ContainsFunc(terms, func(t []byte) bool { return string(t) == string(term) }) {
			terms = append(terms, term)
		}
		_, key, _ = strings.Cut(key, " ")
	}
	return terms
}

// SearchRange returns the terms that begin with what somebody typed: those from
// one on, and below another.
func SearchRange(q string) (from, below []byte, err error) {
	key := searchKey(strings.TrimPrefix(strings.TrimSpace(q), "@"))
	if utf8.RuneCountInString(key) < minQuery || len(key) > maxTerm {
		return nil, nil, ErrBadQuery
	}
	return []byte(key), append([]byte(key), 0xff), nil // no UTF-8 has this byte
}

// searchKey makes names one that differ in nothing that people type: case, width,
// and what stands between words. Of a name that has nothing else nothing is left.
func searchKey(name string) string {
	key, err := precis.Nickname.CompareKey(name)
	if err != nil {
		return ""
	}
	return strings.Join(strings.FieldsFunc(key, func(r rune) bool { return r == ' ' || r == '.' || r == '_' || r == '-' }), " ")
}

// Place is where a page of a search ended.
type Place struct {
	Term []byte
	ID   uuid.UUID
}

// Cursor is the place as clients carry it.
func (p Place) Cursor() string {
	return base64.RawURLEncoding.EncodeToString(append(p.ID[:], p.Term...))
}

// ParsePlace reads a cursor; the empty one stands before the first row.
func ParsePlace(s string) (Place, error) {
	if s == "" {
		return Place{Term: []byte{}}, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) < len(uuid.UUID{}) || len(b) > len(uuid.UUID{})+maxTerm {
		return Place{}, ErrBadCursor
	}
	return Place{ID: uuid.UUID(b[:16]), Term: b[16:]}, nil
}
