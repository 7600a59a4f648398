package core

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/mustermesh/muster/internal/errs"
)

// ErrBadCursor is for a cursor that no page gave.
var ErrBadCursor = errs.New(errs.Invalid, "bad_cursor", "use the cursor of a Link header as it is").At("query.cursor")

// Position is where a page ended: lists are ordered by a time that doesn't
// change, then by id.
type Position struct {
	At time.Time
	ID uuid.UUID
}

// Cursor is the position as clients carry it.
func (p Position) Cursor() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %s", p.At.UnixMicro(), p.ID))
}

// ParseCursor reads a cursor; the empty one stands before the first row.
func ParseCursor(s string, descending bool) (Position, error) {
	if s == "" && descending {
		return Position{At: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}, nil
	}
	if s == "" {
		return Position{}, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return Position{}, ErrBadCursor
	}
	at, id, _ := strings.Cut(string(b), " ")
	us, err := strconv.ParseInt(at, 10, 64)
	if err != nil || us < 0 || us > 253_402_300_799_000_000 { // years 1970 to 9999
		return Position{}, ErrBadCursor
	}
	u, err := uuid.Parse(id)
	if err != nil {
		return Position{}, ErrBadCursor
	}
	return Position{time.UnixMicro(us).UTC(), u}, nil
}

// Page cuts a list that was read with one row too many: what the page holds, and
// the cursor of the next one, empty if there is none.
func Page[T any](list []T, limit int, at func(T) Position) (page []T, next string) {
	if len(list) <= limit {
		return list, ""
	}
	return list[:limit], at(list[limit-1]).Cursor()
}
