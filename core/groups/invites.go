package groups

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/internal/errs"
)

// The failures around invites that a client is told about.
var (
	ErrInviteUnknown  = errs.New(errs.NotFound, "invite_unknown", "there is no such invite: check the code").At("body.invite_code")
	ErrInviteExpired  = errs.New(errs.Gone, "invite_expired", "the invite has expired: ask for a new one")
	ErrInviteRevoked  = errs.New(errs.Gone, "invite_revoked", "the invite was withdrawn: ask for a new one")
	ErrInviteUsed     = errs.New(errs.Gone, "invite_used_up", "the invite was used as often as it may be: ask for a new one")
	ErrBadTerms       = errs.New(errs.Invalid, "bad_invite_terms", "an invite lasts from a minute to a year and has 1 to 10,000 uses")
	ErrTooManyInvites = errs.New(errs.Conflict, "too_many_invites", "the group has 200 open invites: withdraw some")
)

// Invite lets its holder into a group.
type Invite struct {
	Code                 string
	Link                 string // empty unless Config.LinkBase is set
	CreatedBy            core.UserID
	CreatedAt, ExpiresAt time.Time
	MaxUses              int // 0: any number
	Uses                 int
}

// Terms limit an invite; the zero value takes the defaults.
type Terms struct {
	Life    time.Duration
	MaxUses int
}

const (
	codeAlphabet = "0123456789BCDFGHJKMNPQRSTVWXYZ" // Crockford's without A and E
	codeLength   = 10
	maxOpen      = 200
)

// newCode returns a random code. A byte has 256 values: those beyond the
// largest multiple of the alphabet's length are thrown away, or the first
// symbols would be likelier.
func newCode() string {
	code := make([]byte, 0, codeLength)
	var b [1]byte
	for len(code) < codeLength {
		_, _ = rand.Read(b[:]) // never fails since Go 1.24
		if n := int(b[0]); n < 256/len(codeAlphabet)*len(codeAlphabet) {
			code = append(code, codeAlphabet[n%len(codeAlphabet)])
		}
	}
	return string(code)
}

// Invite makes an invite in the caller's transaction. Every member may, unless
// the group's settings leave it to owner and admins.
func (s *Store) Invite(ctx context.Context, tx pgx.Tx, actor core.UserID, id core.GroupID, terms Terms) (Invite, error) {
	r, err := role(ctx, tx, actor, id)
	if err != nil {
		return Invite{}, err
	}
	if r == Plain {
		rules, err := rulesOf(ctx, tx, id)
		if err != nil {
			return Invite{}, fmt.Errorf("invite: %w", err)
		}
		if rules.Invites == AdminsInvite {
			return Invite{}, ErrForbidden
		}
	}
	now := s.cfg.Now()
	// What can't be used any more makes room; a month late, so that lists and
	// refusals can tell what happened for a while.
	if _, err := tx.Exec(ctx, `DELETE FROM invites WHERE group_id = $1 AND (expires_at < $2 OR revoked_at < $2)`,
		id, now.Add(-30*24*time.Hour)); err != nil {
		return Invite{}, fmt.Errorf("invite: %w", err)
	}
	var open int
	if err := tx.QueryRow(ctx, `SELECT count(*) FROM invites
		 WHERE group_id = $1 AND expires_at > $2 AND revoked_at IS NULL AND (max_uses IS NULL OR uses < max_uses)`, id, now).
		Scan(&open); err != nil {
		return Invite{}, fmt.Errorf("invite: %w", err)
	}
	if open >= maxOpen {
		return Invite{}, ErrTooManyInvites
	}
	return s.insertInvite(ctx, tx, actor, id, terms)
}

func (s *Store) insertInvite(ctx context.Context, tx pgx.Tx, actor core.UserID, id core.GroupID, terms Terms) (Invite, error) {
	if terms.Life == 0 {
		terms.Life = s.cfg.InviteLife
	}
	if terms.Life < time.Minute || terms.Life > 366*24*time.Hour || terms.MaxUses < 0 || terms.MaxUses > 10_000 {
		return Invite{}, ErrBadTerms
	}
	now := s.cfg.Now().UTC().Truncate(time.Microsecond) // as it is stored
	i := Invite{Code: newCode(), CreatedBy: actor, CreatedAt: now, ExpiresAt: now.Add(terms.Life), MaxUses: terms.MaxUses}
	i.Link = s.link(i.Code)
	_, err := tx.Exec(ctx,
		`INSERT INTO invites (code, group_id, created_by, created_at, expires_at, max_uses) VALUES ($1, $2, $3, $4, $5, nullif($6::INT, 0))`,
		i.Code, id, actor, i.CreatedAt, i.ExpiresAt, i.MaxUses)
	if err != nil {
		return Invite{}, fmt.Errorf("invite: %w", err)
	}
	return i, nil
}

// parseCode reads a code as people type it, by Crockford's rules (case and
// hyphens don't matter, O is 0, I and L are 1), or the last part of a link. It
// returns ErrInviteUnknown for what can't be a code.
func parseCode(s string) (string, error) {
	code := normalizeCode(s)
	if len(code) != codeLength || strings.Trim(code, codeAlphabet) != "" {
		return "", ErrInviteUnknown
	}
	return code, nil
}

func normalizeCode(s string) string {
	s = strings.TrimRight(strings.TrimSpace(s), "/")
	if i := strings.LastIndexAny(s, "/=#"); i >= 0 {
		s = s[i+1:]
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '-' || r == ' ':
			return -1
		case r == 'o' || r == 'O':
			return '0'
		case strings.ContainsRune("iIlL", r):
			return '1'
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		}
		return r
	}, s)
}

func (s *Store) link(code string) string {
	if s.cfg.LinkBase == "" {
		return ""
	}
	return s.cfg.LinkBase + code
}

// Invites returns the group's open invites, the oldest first: to owner and
// admins all of them, to a member their own. They are at most 200, so there
// are no pages.
func (s *Store) Invites(ctx context.Context, actor core.UserID, id core.GroupID) (list []Invite, err error) {
	err = s.db.InTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(ctx context.Context, tx pgx.Tx) error {
		r, err := role(ctx, tx, actor, id)
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx,
			`SELECT code, created_by, created_at, expires_at, coalesce(max_uses, 0), uses FROM invites
			 WHERE group_id = $1 AND revoked_at IS NULL AND expires_at > $2 AND (max_uses IS NULL OR uses < max_uses)
			   AND ($3 OR created_by = $4)
			 ORDER BY created_at, code`,
			id, s.cfg.Now(), r != Plain, actor)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (i Invite, err error) {
			err = row.Scan(&i.Code, &i.CreatedBy, &i.CreatedAt, &i.ExpiresAt, &i.MaxUses, &i.Uses)
			i.Link = s.link(i.Code)
			return i, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list invites: %w", err)
	}
	return list, nil
}

// Revoke withdraws an invite. Its maker may, and the owner and admins.
// Withdrawing again is a success.
func (s *Store) Revoke(ctx context.Context, actor core.UserID, id core.GroupID, code string) error {
	code, err := parseCode(code)
	if err != nil {
		return ErrInviteUnknown.At("path.invite_code")
	}
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		r, err := role(ctx, tx, actor, id)
		if err != nil {
			return err
		}
		var by core.UserID
		err = tx.QueryRow(ctx, `SELECT created_by FROM invites WHERE code = $1 AND group_id = $2`, code, id).Scan(&by)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return ErrInviteUnknown.At("path.invite_code")
		case err != nil:
			return err
		case r == Plain && by != actor:
			return ErrForbidden
		}
		_, err = tx.Exec(ctx, `UPDATE invites SET revoked_at = $2 WHERE code = $1 AND revoked_at IS NULL`, code, s.cfg.Now())
		return err
	})
	if err != nil {
		return fmt.Errorf("revoke invite: %w", err)
	}
	return nil
}

// Join lets the user in by an invite's code or link. Who is in already stays
// in, whatever became of the invite: the answer to a repeated request.
func (s *Store) Join(ctx context.Context, user core.UserID, code string) (g Group, err error) {
	if code, err = parseCode(code); err != nil {
		return Group{}, err
	}
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		var id core.GroupID
		var expires time.Time
		var revoked *time.Time
		var usedUp bool
		err := tx.QueryRow(ctx,
			`SELECT group_id, expires_at, revoked_at, max_uses IS NOT NULL AND uses >= max_uses FROM invites WHERE code = $1`, code).
			Scan(&id, &expires, &revoked, &usedUp)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrInviteUnknown
		}
		if err != nil {
			return err
		}
		now := s.cfg.Now()
		_, err = role(ctx, tx, user, id)
		switch {
		case err == nil:
			g, err = load(ctx, tx, id)
			return err
		case !errors.Is(err, ErrNotMember):
			return err
		case revoked != nil:
			return ErrInviteRevoked
		case !expires.After(now):
			return ErrInviteExpired
		case usedUp:
			return ErrInviteUsed
		}
		if err := s.admit(ctx, tx, user, id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE invites SET uses = uses + 1 WHERE code = $1`, code); err != nil {
			return err
		}
		g, err = load(ctx, tx, id)
		return err
	})
	if err != nil {
		return Group{}, fmt.Errorf("join group: %w", err)
	}
	return g, nil
}

// JoinPublic lets the user into a public group. To who is in already it is a
// success. Other groups don't exist: ErrNotMember.
func (s *Store) JoinPublic(ctx context.Context, user core.UserID, id core.GroupID) (g Group, err error) {
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := role(ctx, tx, user, id)
		if errors.Is(err, ErrNotMember) {
			var rules Rules
			if rules, err = rulesOf(ctx, tx, id); err != nil {
				return err
			}
			if rules.Visibility != Public {
				return ErrNotMember
			}
			err = s.admit(ctx, tx, user, id)
		}
		if err != nil {
			return err
		}
		g, err = load(ctx, tx, id)
		return err
	})
	if err != nil {
		return Group{}, fmt.Errorf("join group: %w", err)
	}
	return g, nil
}

// admit makes the user a member, unless the group bans them or is full.
func (s *Store) admit(ctx context.Context, tx pgx.Tx, user core.UserID, id core.GroupID) error {
	version, err := s.bump(ctx, tx, id) // first: who bans is before us or after us
	if err != nil {
		return err
	}
	var banned bool
	var count int
	var owner *core.UserID // nil: their account has just ended
	if err := tx.QueryRow(ctx,
		`SELECT EXISTS (SELECT 1 FROM group_bans WHERE group_id = $1 AND user_id = $2), (SELECT count(*) FROM group_members WHERE group_id = $1),
		   (SELECT user_id FROM group_members WHERE group_id = $1 AND role = 'owner')`, id, user).
		Scan(&banned, &count, &owner); err != nil {
		return err
	}
	rules, err := rulesOf(ctx, tx, id)
	if err != nil {
		return err
	}
	most := min(rules.MaxMembers, s.cfg.MaxMembers)
	if owner != nil && s.cfg.Members != nil {
		theirs, err := s.cfg.Members(db.Within(ctx, tx), *owner)
		if err != nil {
			return err
		}
		most = int(min(int64(most), theirs))
	}
	switch {
	case banned:
		return ErrBanned
	case count >= most:
		return ErrFull
	}
	if _, err := tx.Exec(ctx, `INSERT INTO group_members (group_id, user_id, role, joined_at) VALUES ($1, $2, $3, $4)`,
		id, user, Plain, s.cfg.Now()); err != nil {
		return err
	}
	if s.cfg.Talk != nil {
		if err := s.cfg.Talk.Joined(ctx, tx, user, id); err != nil {
			return err
		}
	}
	return emit(ctx, tx, id, user, version, event{kind: core.GroupJoined, user: user, role: Plain})
}
