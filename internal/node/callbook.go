package node

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	corecalls "github.com/mustermesh/muster/core/calls"
	"github.com/mustermesh/muster/core/chat"
	"github.com/mustermesh/muster/core/groups"
	"github.com/mustermesh/muster/core/notify"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/regions"
)

// callBook is core/calls as the media servers see it.
type callBook struct {
	store *corecalls.Store
	// known says whether a region is one, home which region a room without one has.
	known func(regions.RegionID) bool
	self  regions.RegionID
}

// Record satisfies media.Book.
func (b callBook) Record(ctx context.Context, call string) (media.Record, error) {
	id, err := uuid.Parse(call)
	if err != nil {
		return media.Record{}, media.ErrNoCall
	}
	c, err := b.store.Record(ctx, id)
	if err != nil {
		return media.Record{}, err
	}
	return b.record(c), nil
}

func (b callBook) record(c corecalls.Call) media.Record {
	home := regions.RegionID(c.Home)
	if !b.known(home) { // its region was given up
		home = b.self
	}
	return media.Record{
		Call: c.ID.String(), Room: c.Room, Type: string(c.Type), Locked: c.Locked, PushToTalk: c.PushToTalk, Home: home,
		Hearing: media.Hearing{
			Most: uint32(c.Hearing.Most), Loudness: float32(c.Hearing.Loudness), Nearness: float32(c.Hearing.Nearness), Radius: float32(c.Hearing.Radius),
		},
		StartedAt: c.StartedAt, Ended: c.Ended(), Version: uint64(c.Version),
	}
}

// Lock satisfies media.Book.
func (b callBook) Lock(ctx context.Context, call string, by media.Session, locked bool) error {
	return b.by(call, by, func(id uuid.UUID, user core.UserID) error {
		_, err := b.store.Change(ctx, user, id, corecalls.Change{Locked: &locked})
		return err
	})
}

// End satisfies media.Book.
func (b callBook) End(ctx context.Context, call string, by media.Session) error {
	return b.by(call, by, func(id uuid.UUID, user core.UserID) error { return b.store.End(ctx, user, id) })
}

func (b callBook) by(call string, by media.Session, do func(id uuid.UUID, user core.UserID) error) error {
	id, err := uuid.Parse(call)
	if err != nil {
		return media.ErrNoCall
	}
	user, err := core.ParseUserID(by.User)
	if err != nil {
		return media.ErrForbidden
	}
	return do(id, user)
}

// Joined satisfies media.Book.
func (b callBook) Joined(ctx context.Context, call, user string) error {
	return b.by(call, media.Session{User: user}, func(id uuid.UUID, user core.UserID) error { return b.store.Joined(ctx, id, user) })
}

// Idle satisfies media.Book.
func (b callBook) Idle(ctx context.Context, call string) error {
	id, err := uuid.Parse(call)
	if err != nil {
		return media.ErrNoCall
	}
	return b.store.Idle(ctx, id)
}

// Seen satisfies media.Book.
func (b callBook) Seen(ctx context.Context, calls []string) ([]media.Record, error) {
	ids := make([]uuid.UUID, 0, len(calls))
	for _, call := range calls {
		if id, err := uuid.Parse(call); err == nil {
			ids = append(ids, id)
		}
	}
	list, err := b.store.Seen(ctx, ids)
	if err != nil {
		return nil, err
	}
	records := make([]media.Record, 0, len(calls))
	there := map[string]bool{}
	for _, c := range list {
		r := b.record(c)
		there[r.Call] = true
		records = append(records, r)
	}
	for _, call := range calls {
		if !there[call] { // its room is no more, and nobody is left to end it
			records = append(records, media.Record{Call: call, Ended: true, Version: math.MaxUint64})
		}
	}
	return records, nil
}

// callRooms says who may call whom: core/groups and core/chat for core/calls.
type callRooms struct {
	groups *groups.Store
	talks  *chat.Conversations
}

func (r callRooms) Standing(ctx context.Context, user core.UserID, room string) (corecalls.Standing, error) {
	if group, ok := core.GroupOf(room); ok {
		s, err := r.groups.Member(ctx, user, group, 0)
		if errors.Is(err, groups.ErrNotMember) {
			err = errNotMember
		}
		return corecalls.Standing{Role: string(s.Role), Home: s.Home, Writes: true}, err
	}
	s, err := r.talks.Standing(ctx, user, room, 0)
	if errors.Is(err, chat.ErrNotMember) {
		err = errNotMember
	}
	return corecalls.Standing{Role: s.Role, Home: s.Home, Writes: s.Writes}, err
}

// missedCalls tells people of calls: core/notify for core/calls.
type missedCalls struct{ *notifications }

func (n missedCalls) NotifyOnce(ctx context.Context, tx pgx.Tx, to core.UserID, kind, once string, data map[string]any) error {
	return n.Send(ctx, tx, notify.Notice{To: to, Kind: kind, Data: data, Once: once})
}

// liveCalls says who is in calls: the media servers for core/calls.
type liveCalls struct{ rt *Realtime }

func (l liveCalls) Participants(ctx context.Context, call uuid.UUID) ([]corecalls.Participant, error) {
	list := []corecalls.Participant{}
	for _, p := range l.rt.calls.participants(ctx, call.String()) {
		user, err := core.ParseUserID(p.GetUser())
		if err != nil {
			continue
		}
		list = append(list, corecalls.Participant{
			User: user, Device: p.GetDevice(), Name: p.GetName(), Region: p.GetRegion(), JoinedAt: p.GetJoinedAt().AsTime().Truncate(time.Millisecond),
			MicMuted: p.GetMicMuted(), SpeakerMuted: p.GetSpeakerMuted(), Camera: p.GetCamera(), Screen: p.GetScreen(), Music: p.GetMusic(), Suspended: p.GetSuspended(),
		})
	}
	return list, nil
}
