package groups

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/outbox"
	"github.com/mustermesh/muster/internal/errs"
)

// The failures that a client is told about, beside those of core.
var (
	ErrNotMember      = errs.New(errs.NotFound, "not_member", "there is no such group, or you are no member of it")
	ErrNoSuchMember   = errs.New(errs.NotFound, "member_not_found", "this user is no member of the group")
	ErrForbidden      = errs.New(errs.Forbidden, "role_required", "your role in the group does not allow this")
	ErrBanned         = errs.New(errs.Forbidden, "banned", "this group does not let you in")
	ErrOwnerStays     = errs.New(errs.Conflict, "owner_must_transfer", "transfer the ownership before you leave")
	ErrFull           = errs.New(errs.Conflict, "group_full", "the group has as many members as it may have")
	ErrBadName        = errs.New(errs.Invalid, "bad_name", "a group's name has 1 to 80 characters").At("body.name")
	ErrBadDescription = errs.New(errs.Invalid, "bad_description", "a description has at most 2,000 characters").At("body.description")
	ErrBadRole        = errs.New(errs.Invalid, "bad_role", "a role is admin or member").At("body.role")
	ErrBehind         = errs.New(errs.Unavailable, "retry", "a newer state of the group is on its way: try again").After(100 * time.Millisecond)
)

// Role is what a member may do: see the package comment.
type Role string

const (
	Owner  Role = "owner"
	Admin  Role = "admin"
	Plain  Role = "member"
	nobody Role = ""
)

// manages reports whether r may remove, and see the invites of, somebody with role o.
func (r Role) manages(o Role) bool {
	return r == Owner && o != Owner || r == Admin && o == Plain
}

// Announcer tells the edges of this region that a group's version is now at
// least this. It returns when they have applied it; it must bound its own time.
type Announcer interface {
	MembershipChanged(ctx context.Context, room string, version uint64)
}

// Leaving is what a membership's end changes elsewhere: Left is part of its
// transaction, Tell comes after it. core/location satisfies it.
type Leaving interface {
	Left(ctx context.Context, tx pgx.Tx, user core.UserID, group core.GroupID) error
	Tell(ctx context.Context, user core.UserID, others ...core.UserID)
}

// Talk is what memberships mean for the group's conversation, in the transaction that
// changes them: who joins begins with what is said from then on. core/chat satisfies
// it.
type Talk interface {
	Joined(ctx context.Context, tx pgx.Tx, user core.UserID, group core.GroupID) error
	Left(ctx context.Context, tx pgx.Tx, user core.UserID, group core.GroupID) error
}

// Notifier tells people what they may want to know while they are away, in the
// caller's transaction. core/notify satisfies it.
type Notifier interface {
	Notify(ctx context.Context, tx pgx.Tx, to core.UserID, kind string, data map[string]any) error
}

// Config holds what is optional about a Store; its zero value works.
type Config struct {
	Now        func() time.Time // default time.Now
	Announce   Announcer        // may be nil
	Leaving    Leaving          // may be nil
	Talk       Talk             // may be nil
	Notify     Notifier         // may be nil
	MaxMembers int              // default 1,000
	// Members is how many members a group of an owner's may have, for what they pay;
	// nil: as many as MaxMembers. ctx reads in the transaction that asks.
	Members    func(ctx context.Context, owner core.UserID) (int64, error)
	InviteLife time.Duration // default 7 days
	LinkBase   string        // of invite links, such as "https://example.org/join/"; default: no links
}

// Store is the groups. It is safe for concurrent use.
type Store struct {
	db     *db.DB
	region string // home region of groups made here
	cfg    Config
}

// New returns a Store for nodes of a region.
func New(d *db.DB, region string, cfg Config) *Store {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.MaxMembers = cmp.Or(cfg.MaxMembers, 1000)
	cfg.InviteLife = cmp.Or(cfg.InviteLife, 7*24*time.Hour)
	return &Store{db: d, region: region, cfg: cfg}
}

// Group is a group as its members see it.
type Group struct {
	ID                        core.GroupID
	Name, Description, Avatar string
	Settings                  map[string]any
	Home                      string // region: see Store.Home
	CreatedAt                 time.Time
	Members                   []Member // the longest-standing first
	Version                   uint64
}

// Draft is what a new group is made of.
type Draft struct {
	Name, Description, Avatar string
	Settings                  map[string]any
}

// Change names what is to be replaced; nil leaves a field as it is.
type Change struct {
	Name, Description, Avatar *string
	Settings                  map[string]any // as a whole
}

// Create makes a group in the caller's transaction, with owner as its only
// member and a first invite.
func (s *Store) Create(ctx context.Context, tx pgx.Tx, owner core.UserID, d Draft) (core.GroupID, Invite, error) {
	id := core.GroupID(uuid.New())
	c := Change{Name: &d.Name, Description: &d.Description, Avatar: &d.Avatar, Settings: d.Settings}
	settings, err := s.check(&c)
	if err != nil {
		return id, Invite{}, err
	}
	if settings == nil {
		settings = []byte("{}")
	}
	now := s.cfg.Now()
	if _, err := tx.Exec(ctx,
		`INSERT INTO groups (id, name, description, avatar, settings, home_region, version, created_at, updated_at, last_active)
		 VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $7, $7)`,
		id, *c.Name, *c.Description, d.Avatar, settings, s.region, now); err != nil {
		return id, Invite{}, fmt.Errorf("create group: %w", err)
	}
	if _, err := tx.Exec(ctx, `INSERT INTO group_members (group_id, user_id, role, joined_at) VALUES ($1, $2, $3, $4)`,
		id, owner, Owner, now); err != nil {
		return id, Invite{}, fmt.Errorf("create group: %w", err)
	}
	if err := s.list(ctx, tx, id); err != nil {
		return id, Invite{}, fmt.Errorf("create group: %w", err)
	}
	if err := emit(ctx, tx, id, owner, 1, event{kind: core.GroupJoined, user: owner, role: Owner}); err != nil {
		return id, Invite{}, fmt.Errorf("create group: %w", err)
	}
	invite, err := s.insertInvite(ctx, tx, owner, id, Terms{})
	return id, invite, err
}

// check validates and normalizes a change in place.
func (s *Store) check(c *Change) (settings []byte, err error) {
	if c.Name != nil {
		name, ok := core.CleanText(*c.Name, 1, 80, false)
		if !ok {
			return nil, ErrBadName
		}
		c.Name = &name
	}
	if c.Description != nil {
		description, ok := core.CleanText(*c.Description, 0, 2000, true)
		if !ok {
			return nil, ErrBadDescription
		}
		c.Description = &description
	}
	if c.Avatar != nil {
		if err := core.CheckPicture(*c.Avatar); err != nil {
			return nil, core.ErrBadPicture.At("body.avatar")
		}
	}
	if c.Settings != nil {
		if err := s.checkSettings(c.Settings); err != nil {
			return nil, err
		}
		if settings, err = core.EncodeSettings(c.Settings); err != nil {
			return nil, core.ErrBadSettings.At("body.settings")
		}
	}
	return settings, nil
}

// Get returns a group to one of its members.
func (s *Store) Get(ctx context.Context, user core.UserID, id core.GroupID) (g Group, err error) {
	err = s.db.InTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := role(ctx, tx, user, id); err != nil {
			return err
		}
		g, err = load(ctx, tx, id)
		return err
	})
	if err != nil {
		return Group{}, fmt.Errorf("read group: %w", err)
	}
	return g, nil
}

// Home returns the region in which a group was made; it never changes. What is
// written often is written there, near to the rows where the database keeps
// them by region. A group that doesn't exist is ErrNotMember.
func (s *Store) Home(ctx context.Context, id core.GroupID) (region string, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT home_region FROM groups WHERE id = $1`, id).Scan(&region)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return "", ErrNotMember
	case err != nil:
		return "", fmt.Errorf("read home region: %w", err)
	}
	return region, nil
}

// Update changes a group's description of itself. Admins may.
func (s *Store) Update(ctx context.Context, actor core.UserID, id core.GroupID, c Change) (g Group, err error) {
	settings, err := s.check(&c)
	if err != nil {
		return Group{}, err
	}
	err = s.change(ctx, "update group", actor, id, func(ctx context.Context, tx pgx.Tx, r Role) (e event, err error) {
		if r == Plain {
			return e, ErrForbidden
		}
		if _, err := tx.Exec(ctx,
			`UPDATE groups SET name = coalesce($2, name), description = coalesce($3, description),
			   avatar = coalesce($4, avatar), settings = coalesce($5, settings) WHERE id = $1`,
			id, c.Name, c.Description, c.Avatar, settings); err != nil {
			return e, err
		}
		if c.Name != nil || settings != nil {
			if err := s.list(ctx, tx, id); err != nil {
				return e, err
			}
		}
		g, err = load(ctx, tx, id)
		return event{kind: core.GroupUpdated}, err
	})
	return g, err
}

// Delete ends a group with all that is said in it. The owner may.
func (s *Store) Delete(ctx context.Context, actor core.UserID, id core.GroupID) error {
	return s.change(ctx, "delete group", actor, id, func(ctx context.Context, tx pgx.Tx, r Role) (event, error) {
		if r != Owner {
			return event{}, ErrForbidden
		}
		return event{kind: core.GroupDeleted}, remove(ctx, tx, id)
	})
}

// remove deletes the group's rows.
func remove(ctx context.Context, tx pgx.Tx, id core.GroupID) error {
	for _, sql := range []string{
		`UPDATE attachments SET expires_at = now() WHERE room = $1`, // the files go with the next sweep
		`DELETE FROM message_mentions WHERE room = $1`,
		`DELETE FROM message_attachments WHERE room = $1`,
		`DELETE FROM message_edits WHERE room = $1`,
		`DELETE FROM message_reactions WHERE room = $1`,
		`DELETE FROM message_hidden WHERE room = $1`,
		`DELETE FROM messages WHERE room = $1`,
		`DELETE FROM rooms WHERE room = $1`,
		`DELETE FROM receipts WHERE room = $1`,
		`DELETE FROM conversation_mutes WHERE room = $1`,
	} {
		if _, err := tx.Exec(ctx, sql, id.Room()); err != nil {
			return err
		}
	}
	for _, sql := range []string{
		`DELETE FROM expenses WHERE group_id = $1`,
		`DELETE FROM expense_wallets WHERE group_id = $1`,
	} {
		if _, err := tx.Exec(ctx, sql, id); err != nil {
			return err
		}
	}
	// Members, invites, bans and terms go by ON DELETE CASCADE.
	_, err := tx.Exec(ctx, `DELETE FROM groups WHERE id = $1`, id)
	return err
}

// Summary is a group in a list.
type Summary struct {
	ID           core.GroupID
	Name, Avatar string
	MemberCount  int
	LastActive   time.Time // of its latest message, fix or change
}

// List returns a user's groups, the latest joined first, and the cursor of the
// next page, empty if there is none. The order doesn't depend on activity, so
// paging neither repeats nor skips a group that comes alive meanwhile.
func (s *Store) List(ctx context.Context, user core.UserID, cursor string, limit int) (list []Summary, next string, err error) {
	after, err := core.ParseCursor(cursor, true)
	if err != nil {
		return nil, "", err
	}
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx,
			`SELECT g.id, g.name, g.avatar,
			   (SELECT count(*) FROM group_members c WHERE c.group_id = g.id),
			   greatest(g.last_active, (SELECT m.sent_at FROM messages m WHERE m.room = 'group:' || g.id::TEXT ORDER BY m.number DESC LIMIT 1)),
			   gm.joined_at
			 FROM group_members gm JOIN groups g ON g.id = gm.group_id
			 WHERE gm.user_id = $1 AND (gm.joined_at, gm.group_id) < ($2, $3)
			 ORDER BY gm.joined_at DESC, gm.group_id DESC LIMIT $4`,
			user, after.At, after.ID, limit+1)
		if err != nil {
			return err
		}
		var last core.Position
		list, next = nil, ""
		_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
			var g Summary
			var joined time.Time
			if err := row.Scan(&g.ID, &g.Name, &g.Avatar, &g.MemberCount, &g.LastActive, &joined); err != nil {
				return struct{}{}, err
			}
			if len(list) == limit {
				next = last.Cursor()
				return struct{}{}, nil
			}
			list, last = append(list, g), core.Position{At: joined, ID: uuid.UUID(g.ID)}
			return struct{}{}, nil
		})
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list groups: %w", err)
	}
	return list, next, nil
}

// Touch raises the last activity of groups, given by their rooms; it never
// lowers one. Rooms that are no group's are ignored.
func (s *Store) Touch(ctx context.Context, at map[string]time.Time) error {
	var ids []core.GroupID
	var times []time.Time
	for room, t := range at {
		if id, ok := core.GroupOf(room); ok {
			ids, times = append(ids, id), append(times, t)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx,
			`UPDATE groups SET last_active = v.at FROM unnest($1::UUID[], $2::TIMESTAMPTZ[]) AS v (id, at)
			 WHERE groups.id = v.id AND groups.last_active < v.at`, ids, times)
		return err
	})
	if err != nil {
		return fmt.Errorf("touch groups: %w", err)
	}
	return nil
}

// change runs fn for a member of the group, adds one to its version in the same
// transaction, and leaves the event that fn returns, if it has a kind.
func (s *Store) change(ctx context.Context, what string, actor core.UserID, id core.GroupID, fn func(context.Context, pgx.Tx, Role) (event, error)) error {
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		r, err := role(ctx, tx, actor, id)
		if err != nil {
			return err
		}
		version, err := s.bump(ctx, tx, id)
		if err != nil {
			return err
		}
		e, err := fn(ctx, tx, r)
		if err != nil || e.kind == "" {
			return err
		}
		return emit(ctx, tx, id, actor, version, e)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// event is what a change leaves in the outbox.
type event struct {
	kind string
	user core.UserID // whom it is about; zero: nobody
	role Role
}

// emit leaves an event for the group's room, and for all devices of whom it is
// about: they may not be in the room, or not any more.
func emit(ctx context.Context, tx pgx.Tx, id core.GroupID, by core.UserID, version uint64, e event) error {
	data := core.GroupEvent{Group: id.String(), Role: string(e.role), Version: version}
	if e.user != by {
		data.By = by.String()
	}
	events := []outbox.Event{{Key: id.Room(), Kind: e.kind}}
	if e.user != (core.UserID{}) {
		data.User = e.user.String()
		events = append(events, outbox.Event{Key: e.user.Key(), Kind: e.kind})
	}
	for i := range events {
		events[i].Data = data
	}
	return outbox.Append(ctx, tx, events...)
}

// bump adds one to the group's version, and announces it once that is committed.
// Its row lock also puts the changes of one group in a line.
func (s *Store) bump(ctx context.Context, tx pgx.Tx, id core.GroupID) (version uint64, err error) {
	now := s.cfg.Now()
	err = tx.QueryRow(ctx,
		`UPDATE groups SET version = version + 1, updated_at = $2, last_active = greatest(last_active, $2) WHERE id = $1 RETURNING version`,
		id, now).Scan(&version)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, ErrNotMember
	}
	if err == nil {
		s.announce(ctx, id, version)
	}
	return version, err
}

// announce tells the edges once the transaction has committed.
func (s *Store) announce(ctx context.Context, id core.GroupID, version uint64) {
	if s.cfg.Announce != nil {
		db.AfterCommit(ctx, func(ctx context.Context) { s.cfg.Announce.MembershipChanged(ctx, id.Room(), version) })
	}
}

// load reads a whole group.
func load(ctx context.Context, q db.Querier, id core.GroupID) (Group, error) {
	g := Group{ID: id}
	err := q.QueryRow(ctx, `SELECT name, description, avatar, settings, home_region, created_at, version FROM groups WHERE id = $1`, id).
		Scan(&g.Name, &g.Description, &g.Avatar, &g.Settings, &g.Home, &g.CreatedAt, &g.Version)
	if err != nil {
		return Group{}, err
	}
	g.Members, err = members(ctx, q, id, core.Position{}, 1<<20)
	return g, err
}
