package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/auth"
	"github.com/mustermesh/muster/core/chat"
	"github.com/mustermesh/muster/core/groups"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/hub"
	"github.com/mustermesh/muster/internal/errs"
	"github.com/mustermesh/muster/regions"
)

// The types of this file say in the words of one side what the other needs.

// verifier is core/auth's as the edge sees it.
type verifier struct{ *auth.Verifier }

func (v verifier) Verify(token string) (edge.Identity, error) {
	id, err := v.Verifier.Verify(context.Background(), token)
	if err != nil {
		return edge.Identity{}, err
	}
	user := id.User.String()
	if id.Fleet != (core.FleetID{}) {
		user = edge.FleetUser(id.Fleet.String())
	}
	return edge.Identity{User: user, Name: id.Name, Login: id.Login.String(), Expires: id.Expires}, nil
}

// members is core/groups, and for all other rooms conversations, as the edge sees
// them.
type members struct {
	groups *groups.Store
	talks  *conversations
	homes  interface{ learn(room, region string) } // hears where rooms are at home
}

var errNotMember = errs.New(errs.Forbidden, edge.CodeNotMember, "there is no such room, or you are no member of it")

func (m members) Member(ctx context.Context, user, room string, min uint64) (edge.Membership, error) {
	id, err := core.ParseUserID(user)
	if err != nil {
		return edge.Membership{}, errNotMember
	}
	group, ok := core.GroupOf(room)
	if !ok {
		as, home, err := m.talks.Member(ctx, id, room, min)
		if err == nil && home != "" {
			m.homes.learn(room, home)
		}
		return as, err
	}
	s, err := m.groups.Member(ctx, id, group, min)
	switch {
	case errors.Is(err, groups.ErrNotMember):
		return edge.Membership{}, errNotMember
	case err != nil:
		return edge.Membership{}, err
	}
	m.homes.learn(room, s.Home)
	return edge.Membership{Role: string(s.Role), Name: s.Username, Version: s.Version}, nil
}

// store is core/chat as the edge sees it.
type store struct {
	chat      *chat.Chat
	progress  edge.Progress                    // hears that who writes has read what was there
	committed func(room string, number uint64) // may be nil
}

func (s store) Store(ctx context.Context, d edge.Draft) (*wire.Message, bool, error) {
	sender, err := core.ParseUserID(d.Sender)
	if err != nil {
		return nil, false, err
	}
	draft := chat.Draft{Room: d.Room, Sender: sender, ClientID: d.ClientID, Body: d.Body, ReplyTo: d.ReplyTo, Queued: d.Queued}
	for _, s := range d.Mentions {
		id, err := core.ParseUserID(s)
		if err != nil {
			return nil, false, chat.ErrBadMessage
		}
		draft.Mentions = append(draft.Mentions, id)
	}
	for _, s := range d.Attachments {
		id, err := uuid.Parse(s)
		if err != nil {
			return nil, false, chat.ErrBadMessage
		}
		draft.Attachments = append(draft.Attachments, id)
	}
	m, stored, err := s.chat.Store(ctx, draft)
	if err != nil {
		return nil, false, err
	}
	s.progress.Advance(m.Room, d.Sender, "", m.Number, m.Number)
	if s.committed != nil {
		s.committed(m.Room, m.Number)
	}
	m.SenderName = d.SenderName
	return m.Wire(), toSpread(m, stored), nil
}

// spreadAgain is how long a message that is sent again is also spread again:
// the first attempt may have ended between COMMIT and that. Clients know
// messages by their numbers, so it does no harm.
const spreadAgain = time.Minute

func toSpread(m chat.Message, stored bool) bool { return stored || time.Since(m.SentAt) < spreadAgain }

func (s store) History(ctx context.Context, viewer, room string, p edge.Page) ([]*wire.Message, bool, error) {
	id, err := core.ParseUserID(viewer)
	if err != nil {
		return nil, false, err
	}
	l, err := s.chat.History(ctx, id, room, chat.Page{
		Before: p.Before, After: p.After, Revised: p.Revised, ChangedAfter: p.ChangedAfter, Limit: p.Limit,
	})
	if err != nil {
		return nil, false, err
	}
	out := make([]*wire.Message, len(l.Messages))
	for i, m := range l.Messages {
		out[i] = m.Wire()
	}
	return out, l.More, nil
}

func (s store) Last(ctx context.Context, room string) (edge.Last, error) {
	number, change, err := s.chat.Last(ctx, room)
	return edge.Last{Number: number, Change: change}, err
}

// conversation is messages and the live room together, as the HTTP API sees
// them.
type conversation struct {
	*chat.Chat // for History
	home       *home
	hub        *hub.Hub
}

// sendLimit is longer than chat tries to store a message.
const sendLimit = 15 * time.Second

// Send stores a message and spreads it. The caller's end does not stop it: a
// message that may be stored by then would be heard by nobody.
func (c conversation) Send(ctx context.Context, d chat.Draft, senderName string) (chat.Message, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendLimit)
	defer cancel()
	m, spread, err := c.home.Store(ctx, edge.Draft{
		Room: d.Room, Sender: d.Sender.String(), SenderName: senderName, ClientID: d.ClientID, Body: d.Body, ReplyTo: d.ReplyTo,
		Mentions: texts(d.Mentions), Attachments: texts(d.Attachments),
	})
	if err != nil {
		return chat.Message{}, err
	}
	if spread {
		c.hub.Publish(d.Room, m)
	}
	return messageOf(d.Room, m)
}

func texts[T fmt.Stringer](ids []T) (list []string) {
	for _, id := range ids {
		list = append(list, id.String())
	}
	return list
}

// membershipAnnouncer is the hub as core/groups sees it.
type membershipAnnouncer struct {
	hub *hub.Hub
	log *slog.Logger
}

func (a *membershipAnnouncer) MembershipChanged(ctx context.Context, room string, version uint64) {
	if a.hub == nil {
		return // nobody is in a room before there is one
	}
	if err := a.hub.MembershipChanged(ctx, room, version); err != nil {
		a.log.WarnContext(ctx, "membership change not confirmed by the region", "room", room, "version", version, "err", err)
	}
}

// clientSchemes are those of the URLs that the topology tells clients, for the
// web app's policy.
func clientSchemes(t *regions.Topology) (list []string) {
	for _, r := range t.Regions {
		for _, n := range r.Nodes {
			for _, u := range []string{n.HTTP, n.WS, n.WT} {
				scheme, _, ok := strings.Cut(u, "//")
				if ok && !slices.Contains(list, scheme) { // such as "wss:"
					list = append(list, scheme)
				}
			}
		}
	}
	return list
}
