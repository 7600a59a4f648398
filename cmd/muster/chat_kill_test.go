package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/bench/fleet"
	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/client"
)

// Real processes are killed at random points while 50 clients, some of them second
// devices, send 200 messages a second, read what they hear, and some edit, delete, pin
// and react. Every message that was acknowledged is in the history exactly once, and is
// what its acknowledged revisions made of it; every client has the same messages in the
// same order and state as every node's history, and none has a hole. Nobody's receipt
// ever goes back at any client, and in the end all have those that the server has.
// `make prove-chat-kill` kills 200 times.
func TestMessagesSurviveKills(t *testing.T) {
	kills := 10
	if s := os.Getenv("MUSTER_PROVE_KILLS"); s != "" {
		var err error
		kills, err = strconv.Atoi(s)
		require.NoError(t, err)
	} else {
		t.Parallel()
	}
	c := testFleet()
	require.NoError(t, c.with(t.Context(), fleet.Config{Nodes: 3}, func(f *fleet.Fleet) error {
		if err := f.Start(t.Context()); err != nil {
			return err
		}
		talkWhileKilled(t, f, kills)
		return nil
	}))
}

const (
	talkers  = 50
	second   = 40  // from this client on they are second devices of the first ones
	talkRate = 200 // messages a second, of all
)

// talker is a client in the room, and what its application was given.
type talker struct {
	id      string
	api     *client.API
	session *client.Session
	room    *client.Room
	every   uint64 // which messages are read: 0 means none

	mu      sync.Mutex // guards the following
	heard   map[uint64]client.Message
	told    marks            // receipts by the events
	shown   marks            // and as the room had them then
	said    []client.Message // own messages that were acknowledged
	read    uint64           // the highest message that was read or written here
	twice   []uint64         // given again, though not revised
	back    []string         // of which an older state was given after a newer one
	missed  int
	changes int // of receipts
	reading sync.WaitGroup
}

// take is the application: it keeps what it is given, reads some of it, and asks for
// the receipts that it may have missed.
func (k *talker) take(ctx context.Context, e client.Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch e := e.(type) {
	case client.MessageArrived:
		if _, ok := k.heard[e.Message.Number]; ok {
			k.twice = append(k.twice, e.Message.Number)
		}
		k.keep(e.Message)
		if k.every > 0 && e.Message.Number%k.every == 0 {
			k.read = max(k.read, e.Message.Number)
			k.room.Read(e.Message.Number)
		}
	case client.Revised:
		k.keep(e.Message)
	case client.ReceiptsChanged:
		k.changes += len(e.Seen)
		k.back = append(k.back, k.told.take(e.Seen)...)
		k.back = append(k.back, k.shown.take(k.room.Receipts())...)
	case client.RegionReplaced:
		if !e.Recovered || e.Late {
			k.reading.Go(func() {
				_ = answered(ctx, func() error {
					list, err := k.api.Receipts(ctx, k.room.ID())
					k.room.Learn(list...)
					return err
				})
			})
		}
	case client.Missed:
		k.missed++
	}
}

func (k *talker) keep(m client.Message) {
	if had, ok := k.heard[m.Number]; ok && had.Change > m.Change {
		k.back = append(k.back, fmt.Sprintf("message %d from change %d to %d", m.Number, had.Change, m.Change))
		return
	}
	k.heard[m.Number] = m
}

// marks are how far people have got.
type marks map[string]client.Seen

// take returns what went back.
func (m marks) take(list []client.Seen) (back []string) {
	for _, s := range list {
		if had := m[s.User]; s.Read < had.Read || s.Delivered < had.Delivered || s.Read > s.Delivered {
			back = append(back, fmt.Sprintf("the receipt %+v to %+v", had, s))
		}
		m[s.User] = s
	}
	return back
}

// lacks returns which of the messages, as they are now, were not given.
func (k *talker) lacks(history []client.Message) (lacking []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, m := range history {
		if had := k.heard[m.Number]; !same(had, m) {
			lacking = append(lacking, fmt.Sprintf("message %d: has %+v, and it is %+v", m.Number, had, m))
		}
	}
	return lacking
}

// acknowledged is what was promised.
type acknowledged struct {
	mu       sync.Mutex
	messages map[string]uint64 // by client id
	refused  []error
}

func talkWhileKilled(t *testing.T, f *fleet.Fleet, kills int) {
	ctx := t.Context()
	pool := f.Client()
	defer pool.CloseIdleConnections()
	people := gather(t, f, func(ep []client.Endpoint, api *client.API) (*client.Session, error) {
		return client.Connect(ctx, client.Config{
			Endpoints: ep, Tokens: api, HTTP: pool, QueueSize: 1 << 17, Dialer: &client.Dialer{Transport: client.WebSocketOnly},
		})
	})
	acks := &acknowledged{messages: map[string]uint64{}}
	sending, stop := context.WithCancel(ctx)
	var senders sync.WaitGroup
	var offered atomic.Int64
	senders.Go(func() {
		_ = loadgen.Open(sending, time.Now(), time.Second/talkRate, 1<<40, func(i int, _ time.Time) {
			offered.Add(1)
			senders.Go(func() { say(ctx, people[i%talkers], i, acks) })
		})
	})

	var editors []*editor
	for i, k := range people[:second] {
		if i%3 == 0 {
			e := newEditor(k, uint64(kills), i)
			editors = append(editors, e)
			senders.Go(func() { e.revise(sending, ctx) })
		}
	}

	r := rand.New(rand.NewPCG(7, uint64(kills)))
	began := time.Now()
	for n := range kills {
		wait(t, time.Duration(r.IntN(300))*time.Millisecond)
		victim := f.Nodes[r.IntN(len(f.Nodes))]
		require.NoError(t, victim.Kill(ctx))
		wait(t, time.Duration(r.IntN(100))*time.Millisecond)
		require.NoError(t, victim.Start())
		require.NoError(t, victim.Ready(ctx))
		if n%20 == 19 {
			t.Logf("%d killed in %.0f s, %d messages offered", n+1, time.Since(began).Seconds(), offered.Load())
		}
	}
	stop()
	senders.Wait()
	require.Empty(t, acks.refused, "not acknowledged in two editors")

	for _, e := range editors {
		require.NoError(t, e.failed)
	}

	history := historyOf(t, f, people[0])
	once := map[string]uint64{}
	for i, m := range history {
		require.Equal(t, uint64(i+1), m.Number, "dense from 1")
		require.Zero(t, once[m.ClientID], "%s is there twice", m.ClientID)
		once[m.ClientID] = m.Number
	}
	for id, number := range acks.messages {
		require.Equal(t, number, once[id], "%s was acknowledged as number %d", id, number)
	}
	require.Len(t, once, len(acks.messages), "all that was sent was acknowledged in the end")
	revised := checkRevisions(t, people[0], history, editors)
	for i, k := range people {
		if !assert.Eventually(t, func() bool { return len(k.lacks(history)) == 0 }, time.Minute, 20*time.Millisecond) {
			lacking := k.lacks(history)
			require.Empty(t, lacking[:min(10, len(lacking))], "client %d lacks %d of %d messages; its session is %+v", i, len(lacking), len(history), k.session.Status())
		}
	}
	checkReceipts(t, f, people, uint64(len(history)))
	receipts := 0
	for _, k := range people {
		k.mu.Lock()
		require.Len(t, k.heard, len(history))
		require.Empty(t, k.twice, "given twice")
		require.Empty(t, k.back)
		require.Zero(t, k.missed)
		receipts += k.changes
		k.mu.Unlock()
	}
	t.Logf("%d nodes killed in %.0f s: %d messages acknowledged, each once in the history and at each of %d clients; %s; %d changes of receipts, none back",
		kills, time.Since(began).Seconds(), len(history), talkers, revised, receipts)
}

// gather brings people with sessions on all nodes into one room.
func gather(t *testing.T, f *fleet.Fleet, connect func([]client.Endpoint, *client.API) (*client.Session, error)) (people []*talker) {
	ctx := t.Context()
	var invite, room string
	pool := f.Client()
	t.Cleanup(pool.CloseIdleConnections)
	for i := range talkers {
		k := &talker{heard: map[uint64]client.Message{}, told: marks{}, shown: marks{}, every: []uint64{1, 7, 0}[i%3]}
		var err error
		if i >= second {
			k.id, k.api = people[i-second].id, people[i-second].api
		} else {
			k.api = client.NewAPI(f.Nodes[i%len(f.Nodes)].HTTP, client.APIConfig{HTTP: pool})
			creds, err := k.api.Guest(ctx, fmt.Sprintf("talker %d", i), "test")
			require.NoError(t, err)
			k.id = creds.UserID
		}
		if i == 0 {
			g, err := k.api.CreateGroup(ctx, client.GroupDraft{Name: "Talk"})
			require.NoError(t, err)
			invite, room = g.InviteCode, client.GroupRoom(g.GroupID)
		} else if i < second {
			_, err := k.api.Join(ctx, invite)
			require.NoError(t, err)
		}
		k.session, err = connect(f.Endpoints(i%len(f.Nodes)), k.api)
		require.NoError(t, err)
		k.room, err = k.session.Join(ctx, room)
		require.NoError(t, err)
		reading, stop := context.WithCancel(context.Background())
		events := k.room.Events(reading)
		k.reading.Go(func() {
			for e := range events {
				k.take(reading, e)
			}
		})
		t.Cleanup(func() {
			k.session.Close()
			stop()
			k.reading.Wait()
		})
		people = append(people, k)
	}
	return people
}

// say sends a message until it is acknowledged.
func say(ctx context.Context, k *talker, i int, acks *acknowledged) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	id := fmt.Sprintf("message-%d", i)
	m, err := k.room.SendAs(ctx, id, fmt.Sprintf("%d of %s", i, k.id))
	acks.mu.Lock()
	defer acks.mu.Unlock()
	if err != nil {
		acks.refused = append(acks.refused, fmt.Errorf("%s of client %d, whose session is %+v: %w", id, i%talkers, k.session.Status(), err))
		return
	}
	acks.messages[id] = m.Number
	k.mu.Lock()
	k.said = append(k.said, m)
	k.read = max(k.read, m.Number)
	k.mu.Unlock()
}

func wait(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.FailNow()
	}
}
