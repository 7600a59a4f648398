package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/bench/fleet"
	"github.com/mustermesh/muster/client"
)

// editor is a talker who also edits, deletes and pins what they wrote, and reacts to
// what anybody wrote, and what must have come of it. Each thing is asked for again
// until it is answered, and nobody else does it, so the last answer of each is how it
// is in the end.
type editor struct {
	*talker
	rng    *rand.Rand
	works  []*work
	reacts map[reaction]bool
	gone   int // answers that the message is deleted
	done   int // others
	asked  int
	failed error
}

// work is one of the editor's messages.
type work struct {
	number  uint64
	bodies  []string // the first is as it was sent
	pinned  bool
	deleted bool
	change  uint64 // of the last answer
}

type reaction struct {
	number uint64
	emoji  string
}

func newEditor(k *talker, kills uint64, i int) *editor {
	return &editor{talker: k, rng: rand.New(rand.NewPCG(kills, uint64(i))), reacts: map[reaction]bool{}}
}

// revise does one thing after another until begin ends.
func (e *editor) revise(begin, ctx context.Context) {
	for e.failed == nil {
		select {
		case <-begin.Done():
			return
		case <-time.After(time.Duration(100+e.rng.IntN(300)) * time.Millisecond):
		}
		e.failed = e.one(ctx)
	}
}

func (e *editor) one(ctx context.Context) error {
	e.mu.Lock()
	for _, m := range e.said[min(e.asked, len(e.said)):] {
		e.works = append(e.works, &work{number: m.Number, bodies: []string{m.Body}})
	}
	e.asked = len(e.said)
	e.mu.Unlock()
	mine := slices.DeleteFunc(slices.Clone(e.works[max(0, len(e.works)-20):]), func(w *work) bool { return w.deleted })
	if len(mine) == 0 {
		return nil
	}
	w, room := mine[e.rng.IntN(len(mine))], e.room.ID()
	var m client.Message
	var err error
	switch n := e.rng.IntN(20); {
	case n < 9:
		body := fmt.Sprintf("%d, edited %d times by %s", w.number, len(w.bodies), e.id)
		err = answered(ctx, func() (err error) {
			m, err = e.api.Edit(ctx, room, w.number, body, nil, 0)
			return err
		})
		w.bodies = append(w.bodies, body)
		if err == nil && m.Body != body {
			err = fmt.Errorf("message %d was edited, and says %q", w.number, m.Body)
		}
	case n < 14:
		r := reaction{w.number - e.rng.Uint64N(min(w.number, 30)), []string{"👍", "🎉", "🙂"}[e.rng.IntN(3)]}
		err = answered(ctx, func() error {
			_, err := e.api.React(ctx, room, r.number, r.emoji, !e.reacts[r])
			return err
		})
		if client.IsCode(err, "message_deleted") {
			e.gone++
			return nil
		}
		e.reacts[r] = !e.reacts[r]
		e.done++
		return err
	case n < 18:
		if pins := slices.IndexFunc(e.works, func(w *work) bool { return w.pinned && !w.deleted }); pins >= 0 {
			w = e.works[pins] // at most one of each, or there would be too many
		}
		err = answered(ctx, func() (err error) {
			m, err = e.api.Pin(ctx, room, w.number, !w.pinned)
			return err
		})
		w.pinned = !w.pinned
	default:
		err = answered(ctx, func() error { return e.api.Delete(ctx, room, w.number) })
		w.deleted = true
	}
	e.done++
	w.change = max(w.change, m.Change)
	return err
}

// answered asks until there is an answer that is not of a node that fails.
func answered(ctx context.Context, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		err := ask()
		refused, ok := errors.AsType[*client.Error](err)
		if err == nil || ok && refused.Status < 500 && refused.Status != http.StatusTooManyRequests || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// historyOf reads the room's history over HTTP at every node, which must be the same.
func historyOf(t *testing.T, f *fleet.Fleet, k *talker) (all []client.Message) {
	t.Helper()
	ctx := t.Context()
	for i, p := range f.Nodes {
		var here []client.Message
		api := apiAt(t, f, p, k)
		for before, left := uint64(0), true; left; {
			page, err := api.Messages(ctx, strings.TrimPrefix(k.room.ID(), "group:"), before, 0, 200)
			require.NoError(t, err)
			here = append(page, here...)
			if left = len(page) > 0 && page[0].Number > 1; left {
				before = page[0].Number
			}
		}
		if i == 0 {
			all = here
		}
		require.True(t, slices.EqualFunc(all, here, same), "the history at %s is another one", p.ID)
	}
	return all
}

// apiAt asks one node alone, as a talker.
func apiAt(t *testing.T, f *fleet.Fleet, p *fleet.Process, k *talker) *client.API {
	t.Helper()
	token, err := k.api.Token(t.Context(), "")
	require.NoError(t, err)
	alone := &http.Transport{TLSClientConfig: f.TLS()}
	t.Cleanup(alone.CloseIdleConnections)
	return client.NewAPI(p.HTTP, client.APIConfig{
		HTTP: &http.Client{Timeout: 30 * time.Second, Transport: alone}, Credentials: client.Credentials{UserID: k.id, Token: token},
	})
}

// same compares all that can become of a message.
func same(a, b client.Message) bool {
	return a.Number == b.Number && a.ID == b.ID && a.ClientID == b.ClientID && a.Sender == b.Sender && a.SentAt.Equal(b.SentAt) &&
		a.Body == b.Body && a.EditedAt.Equal(b.EditedAt) && a.Deleted == b.Deleted && a.Pinned == b.Pinned && a.Change == b.Change &&
		slices.EqualFunc(a.Reactions, b.Reactions, func(x, y client.Reaction) bool {
			return x.Emoji == y.Emoji && x.Count == y.Count && slices.Equal(x.Users, y.Users)
		})
}

// checkRevisions holds the history against what was acknowledged.
func checkRevisions(t *testing.T, k *talker, history []client.Message, editors []*editor) string {
	t.Helper()
	ctx, room := t.Context(), k.room.ID()
	works := map[uint64]*work{}
	reacts := map[reaction][]string{}
	done, gone, edited, deleted, pinned, looks := 0, 0, 0, 0, 0, 0
	for _, e := range editors {
		for _, w := range e.works {
			works[w.number] = w
		}
		for r, on := range e.reacts {
			if on {
				reacts[r] = append(reacts[r], e.id)
			}
		}
		done, gone = done+e.done, gone+e.gone
	}
	changes := map[uint64]bool{}
	reactions := 0
	for _, m := range history {
		if m.Change > 0 {
			require.False(t, changes[m.Change], "change %d is of two messages", m.Change)
			changes[m.Change] = true
		}
		w := works[m.Number]
		if w == nil {
			w = &work{bodies: []string{m.Body}}
			require.True(t, m.EditedAt.IsZero())
		}
		require.Equal(t, w.deleted, m.Deleted, "message %d", m.Number)
		require.GreaterOrEqual(t, m.Change, w.change, "message %d", m.Number)
		if m.Deleted {
			deleted++
			require.Empty(t, m.Body+strings.Repeat("reacted", len(m.Reactions)))
			require.False(t, m.Pinned)
			continue
		}
		require.Equal(t, w.bodies[len(w.bodies)-1], m.Body, "message %d", m.Number)
		require.Equal(t, w.pinned, m.Pinned, "message %d", m.Number)
		if m.Pinned {
			pinned++
		}
		want, got := map[string][]string{}, map[string][]string{}
		for _, r := range m.Reactions {
			reactions += r.Count
			require.Len(t, r.Users, r.Count)
			got[r.Emoji] = slices.Sorted(slices.Values(r.Users))
		}
		for _, emoji := range []string{"👍", "🎉", "🙂"} {
			if users := reacts[reaction{m.Number, emoji}]; len(users) > 0 {
				want[emoji] = slices.Sorted(slices.Values(users))
			}
		}
		require.Equal(t, want, got, "reactions to message %d", m.Number)
		if len(w.bodies) == 1 {
			continue
		}
		edited++
		require.False(t, m.EditedAt.IsZero())
		if looks++; looks <= 100 {
			list, err := k.api.Edits(ctx, room, m.Number)
			require.NoError(t, err)
			var before []string
			for _, x := range list {
				before = append(before, x.Body)
			}
			require.Equal(t, w.bodies[:len(w.bodies)-1], before, "each edit of message %d once, in order", m.Number)
		}
	}
	c, err := k.api.Conversation(ctx, room)
	require.NoError(t, err)
	require.Equal(t, c.LastChange, slices.Max(slices.Collect(maps.Keys(changes))), "the last revision is of a message")
	require.GreaterOrEqual(t, c.LastChange, uint64(done), "each acknowledged revision counts once")
	require.LessOrEqual(t, c.LastChange, uint64(done+gone), "and nothing else does, but for what a deletion hid")
	return fmt.Sprintf("%d revisions acknowledged, %d changes: %d messages edited, %d deleted, %d pinned, %d reactions",
		done, c.LastChange, edited, deleted, pinned, reactions)
}

// checkReceipts waits until every client has the receipts that the server has, which
// follow from what was read and written, and so the same count of what is unread.
func checkReceipts(t *testing.T, f *fleet.Fleet, people []*talker, last uint64) {
	t.Helper()
	ctx, room := t.Context(), people[0].room.ID()
	want := map[string]client.Seen{}
	for _, k := range people {
		k.mu.Lock()
		want[k.id] = client.Seen{User: k.id, Delivered: last, Read: max(want[k.id].Read, k.read)}
		k.mu.Unlock()
	}
	for i, k := range people {
		var now map[string]client.Seen
		agrees := func() bool {
			now = map[string]client.Seen{}
			for _, s := range k.room.Receipts() {
				now[s.User] = s
			}
			return maps.Equal(want, now)
		}
		if !assert.Eventually(t, agrees, 30*time.Second, 20*time.Millisecond) {
			for user, s := range want {
				if now[user] != s {
					t.Errorf("client %d has %+v, and %+v was told", i, now[user], s)
				}
			}
		}
	}
	for _, p := range f.Nodes {
		for _, k := range people[:second] {
			api := apiAt(t, f, p, k)
			list, err := api.Receipts(ctx, room)
			require.NoError(t, err)
			for _, s := range list {
				require.Equal(t, want[s.User], s, "at %s", p.ID)
			}
			require.Len(t, list, len(want))
			c, err := api.Conversation(ctx, room)
			require.NoError(t, err)
			require.Equal(t, last-want[k.id].Read, c.Unread, "unread of %s at %s", k.id, p.ID)
		}
	}
}
