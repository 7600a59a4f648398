package groups

import (
	"context"
	"encoding/json"
	"errors"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/internal/errs"
)

// ErrBadSetting is for a setting that has a meaning here, and another value.
var ErrBadSetting = errs.New(errs.Invalid, "bad_settings",
	"visibility is private or public, invites is members or admins, max_members is a whole number from 2 to what the deployment allows").At("body.settings")

// Values of settings.
const (
	Private       = "private" // in by an invite alone
	Public        = "public"  // in the directory, and everybody may join
	MembersInvite = "members"
	AdminsInvite  = "admins" // and the owner
)

// Rules are those of a group's settings that mean something here. All others
// belong to the apps.
type Rules struct {
	Visibility string // default Private
	Invites    string // default MembersInvite
	MaxMembers int    // default: no limit of its own; who is in beyond it stays in
}

// rules reads them from settings, which may be older than a rule is: then what
// stands there doesn't count.
func rules(settings map[string]any) Rules {
	r := Rules{Visibility: Private, Invites: MembersInvite, MaxMembers: math.MaxInt}
	if settings["visibility"] == Public {
		r.Visibility = Public
	}
	if settings["invites"] == AdminsInvite {
		r.Invites = AdminsInvite
	}
	if n, ok := whole(settings["max_members"]); ok && n >= 2 {
		r.MaxMembers = n
	}
	return r
}

// checkSettings wants those that mean something to mean it.
func (s *Store) checkSettings(settings map[string]any) error {
	for _, c := range []struct {
		key  string
		fine func(any) bool
	}{
		{"visibility", func(v any) bool { return v == Private || v == Public }},
		{"invites", func(v any) bool { return v == MembersInvite || v == AdminsInvite }},
		{"max_members", func(v any) bool { n, ok := whole(v); return ok && 2 <= n && n <= s.cfg.MaxMembers }},
	} {
		if v, ok := settings[c.key]; ok && !c.fine(v) {
			return ErrBadSetting.At("body.settings." + c.key)
		}
	}
	return nil
}

// whole reads a number of JSON.
func whole(v any) (int, bool) {
	switch v := v.(type) {
	case float64:
		return int(v), v == math.Trunc(v) && math.Abs(v) < 1<<31
	case json.Number:
		n, err := v.Int64()
		return int(n), err == nil && n == int64(int32(n))
	case int:
		return v, true
	}
	return 0, false
}

func rulesOf(ctx context.Context, q db.Querier, id core.GroupID) (Rules, error) {
	var settings map[string]any
	err := q.QueryRow(ctx, `SELECT settings FROM groups WHERE id = $1`, id).Scan(&settings)
	if errors.Is(err, pgx.ErrNoRows) {
		return Rules{}, ErrNotMember
	}
	return rules(settings), err
}

// list brings up to date how a group stands in the directory, in the transaction
// that changed its name or settings.
func (s *Store) list(ctx context.Context, tx pgx.Tx, id core.GroupID) error {
	var name string
	var settings map[string]any
	if err := tx.QueryRow(ctx, `SELECT name, settings FROM groups WHERE id = $1`, id).Scan(&name, &settings); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM group_terms WHERE group_id = $1`, id); err != nil {
		return err
	}
	if rules(settings).Visibility != Public {
		return nil
	}
	terms := core.SearchTerms(name)
	if len(terms) == 0 { // a name of nothing but signs: it is in the list, at the front
		terms = [][]byte{{}}
	}
	_, err := tx.Exec(ctx, `INSERT INTO group_terms (term, group_id, whole) SELECT t.term, $2, t.term = $3 FROM unnest($1::BYTEA[]) AS t (term)`, terms, id, terms[0])
	return err
}
