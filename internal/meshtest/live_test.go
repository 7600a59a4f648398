package meshtest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/core/outbox"
)

// hearing is what somebody heard of changes, in its order.
type hearing struct {
	who    string
	mu     sync.Mutex
	heard  []string // kinds
	last   uint64
	back   int // a number that is not above the one before
	holes  int // that nothing told of
	missed int // times that something told of one
}

func (w *hearing) take(u client.Update, said bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.last == 0 || u.N == w.last+1:
	case u.N <= w.last:
		w.back++
	case !said && w.missed == 0:
		w.holes++
	}
	w.last = max(w.last, u.N)
	w.heard = append(w.heard, u.Kind)
}

func (w *hearing) miss() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.missed++
}

// of returns what was heard whose kind begins so.
func (w *hearing) of(prefix string) (list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range w.heard {
		if strings.HasPrefix(k, prefix) {
			list = append(list, k)
		}
	}
	return list
}

// listen keeps what is told in a room, and about a user (r is nil).
func (u *User) listen(r *client.Room) *hearing {
	t := u.mesh.t
	w := &hearing{who: u.Name + " at " + u.Session.Status().Node}
	ctx, stop := context.WithCancel(context.Background())
	var reading sync.WaitGroup
	t.Cleanup(func() { stop(); reading.Wait() })
	events := u.Session.Notices(ctx)
	if r != nil {
		events = r.Events(ctx)
	}
	reading.Go(func() {
		for e := range events {
			switch e := e.(type) {
			case client.Updated:
				if e.Missed {
					w.miss()
				}
				w.take(e.Update, e.Missed)
			case client.Noticed:
				w.take(e.Notice, false)
			case client.RegionReplaced:
				if !e.Recovered || e.Late {
					w.miss()
				}
			case client.Missed:
				w.miss()
			}
		}
	})
	return w
}

// change appends events as a change would.
func (m *Mesh) change(kind string, keys ...string) {
	m.t.Helper()
	var events []outbox.Event
	for _, key := range keys {
		events = append(events, outbox.Event{Key: key, Kind: kind, Data: map[string]string{"kind": kind}})
	}
	require.NoError(m.t, m.DB.InTx(m.t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		return outbox.Append(ctx, tx, events...)
	}))
}

// What is changed is heard in the group's room, and by all devices of a user, in
// both regions and through all nodes, once and in its order.
func TestChangesAreHeard(t *testing.T) {
	m := Start(t, 2, 2)
	phone := m.Guest(0, "Ana").Connect(0, 1, client.Auto)
	tablet := &User{API: phone.API, Name: phone.Name, ID: phone.ID, mesh: m}
	tablet.Connect(1, 0, client.Auto)
	bo := m.Guest(1, "Bo").Connect(1, 1, client.Auto)
	group := m.Group(phone, bo)
	joined := []*client.Room{phone.Join(group), tablet.Join(group), bo.Join(group)}
	for _, r := range joined { // until the regions follow each other there, what is told meanwhile is to be read
		m.Eventually("each region knows the other", func() bool {
			ana, _ := Member(r, phone.ID)
			return len(ana.Devices) == 2 && len(r.Members()) == 2
		})
	}
	rooms := []*hearing{phone.listen(joined[0]), tablet.listen(joined[1]), bo.listen(joined[2])}
	mine := []*hearing{phone.listen(nil), tablet.listen(nil)}
	others := bo.listen(nil)

	const many = 50
	began := time.Now()
	for n := range many {
		m.change(fmt.Sprintf("test.%d", n), client.GroupRoom(group), "user:"+phone.ID)
	}
	for _, w := range append(rooms, mine...) {
		if !assert.Eventually(t, func() bool { return len(w.of("test.")) == many }, Patience, 5*time.Millisecond) {
			t.Fatalf("%s heard %v", w.who, w.of(""))
		}
		for n, kind := range w.of("test.") {
			require.Equal(t, fmt.Sprintf("test.%d", n), kind, w.who)
		}
		require.Zero(t, w.back+w.holes, w.who)
	}
	t.Logf("%d changes were heard everywhere after %v", many, time.Since(began))
	require.Empty(t, others.of("test."), "a user's own affair")
}

// Nodes die while things are changed: one that has a session, the room's owner, and
// whichever relays. Whoever goes on elsewhere hears the rest in its order, and knows
// where something is missing.
func TestChangesWhileNodesDie(t *testing.T) {
	m := hasty(t, 2, 3)
	ana := m.Guest(0, "Ana")
	far := m.Guest(1, "Far").Connect(1, 0, client.Auto)
	group := m.Group(ana, far)
	owner := m.owner(0, group)
	a, b := (owner+1)%3, (owner+2)%3
	ana.ConnectTo(client.Auto, m.Endpoint(0, a), m.Endpoint(0, b))
	tablet := &User{API: ana.API, Name: ana.Name, ID: ana.ID, mesh: m}
	tablet.Connect(0, b, client.Auto)
	rooms := []*hearing{ana.listen(ana.Join(group)), tablet.listen(tablet.Join(group)), far.listen(far.Join(group))}
	mine := []*hearing{ana.listen(nil), tablet.listen(nil)}

	n := 0
	say := func(count int) {
		for range count {
			m.change(fmt.Sprintf("test.%d", n), client.GroupRoom(group), "user:"+ana.ID)
			n++
			<-time.After(20 * time.Millisecond)
		}
	}
	say(20)
	m.Kill(m.nodeAt(0, a))
	say(30)
	require.NoError(t, m.Restart(t.Context(), m.nodeAt(0, a)))
	require.NoError(t, m.Nodes[m.nodeAt(0, a)].Cluster().Ready(t.Context()))
	m.Kill(m.nodeAt(0, owner))
	say(30)
	// Whoever was between two owners is told that something may be missing, and hears
	// what comes then.
	all := append(rooms, mine...)
	deaf := func() (who []string) {
		last := fmt.Sprintf("test.%d", n-1)
		for _, w := range all {
			if heard := w.of("test."); len(heard) == 0 || heard[len(heard)-1] != last {
				who = append(who, w.who)
			}
		}
		return who
	}
	for end, asked := time.Now().Add(3*Patience), time.Now(); len(deaf()) > 0; <-time.After(10 * time.Millisecond) {
		require.True(t, time.Now().Before(end), "the last one is not heard by %v", deaf())
		if time.Since(asked) > time.Second {
			say(1)
			asked = time.Now()
		}
	}
	for _, w := range all {
		require.Zero(t, w.back, "%s: the order, %v", w.who, w.heard)
		require.Zero(t, w.holes, "%s: what is missing is told, %v", w.who, w.heard)
		t.Logf("%s heard %d of %d, and of %d holes", w.who, len(w.of("test.")), n, w.missed)
	}
	require.Len(t, mine[1].of("test."), n, "a session that stays where it is misses no notice")
}

// Two become friends from two regions: both hear of it live, on all their devices,
// and read it.
func TestFriendsHearOfEachOther(t *testing.T) {
	m := Start(t, 2, 2)
	ana, bo := m.Guest(0, "Ana").Connect(0, 0, client.Auto), m.Guest(1, "Bo").Connect(1, 1, client.Auto)
	atAna, atBo := ana.listen(nil), bo.listen(nil)
	friends, err := ana.RequestFriend(t.Context(), bo.ID)
	require.NoError(t, err)
	require.False(t, friends)
	m.Eventually("Bo is asked", func() bool { return len(atBo.of("friend.requested")) == 1 })
	asked, err := bo.FriendRequests(t.Context(), false)
	require.NoError(t, err)
	require.Len(t, asked, 1)
	require.Equal(t, ana.ID, asked[0].UserID)
	require.NoError(t, bo.AcceptFriend(t.Context(), ana.ID))
	m.Eventually("Ana hears the answer", func() bool { return len(atAna.of("friend.accepted")) == 1 })
	list, err := ana.Friends(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, bo.ID, list[0].UserID)
	require.Equal(t, "Bo", list[0].Username)

	m.Eventually("both have something to read", func() bool {
		a, err := ana.UnreadNotifications(t.Context())
		require.NoError(t, err)
		b, err := bo.UnreadNotifications(t.Context())
		require.NoError(t, err)
		return a == 1 && b == 1
	})
	unread, err := bo.Notifications(t.Context(), 10)
	require.NoError(t, err)
	require.NoError(t, bo.ReadNotifications(t.Context(), unread[0]))
	n, err := bo.UnreadNotifications(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
	require.NoError(t, ana.Unfriend(t.Context(), bo.ID))
	m.Eventually("Bo hears it", func() bool { return len(atBo.of("friend.removed")) == 1 })

	logins, err := ana.Logins(t.Context())
	require.NoError(t, err)
	require.Len(t, logins, 1)
	require.True(t, logins[0].Current)
	ended, err := ana.EndOtherLogins(t.Context())
	require.NoError(t, err)
	require.Zero(t, ended)
}
