package scenario

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/bench/fleet"
	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/bench/peers"
	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/client"
)

// ChatCase is one load of messages.
type ChatCase struct {
	Name           string
	Rooms, Members int // members of each room
	Senders        int // of each room
	// PerSecond messages of all together, or Window under way in each room at any
	// time.
	PerSecond float64
	Window    int
	// JSON: sockets of text; WebTransport: what the SDKs take first. Else binary
	// WebSockets.
	JSON, WebTransport bool
	Nakama             bool // measured there, too, without TLS: its sockets have none by themselves
}

// ChatCases are what `muster bench chat` plays.
func ChatCases() []ChatCase {
	return []ChatCase{
		{Name: "1 sender, 50 members, 8 under way, JSON", Rooms: 1, Members: 50, Senders: 1, Window: 8, JSON: true, Nakama: true},
		{Name: "1 sender, 50 members, 8 under way, WebSocket", Rooms: 1, Members: 50, Senders: 1, Window: 8, Nakama: true},
		{Name: "1 sender, 50 members, 8 under way, WebTransport", Rooms: 1, Members: 50, Senders: 1, Window: 8, WebTransport: true},
		{Name: "1 room, 100 senders, 1,000/s", Rooms: 1, Members: 100, Senders: 100, PerSecond: 1000},
		{Name: "1,000 rooms of 2, 1,000/s", Rooms: 1000, Members: 2, Senders: 2, PerSecond: 1000},
	}
}

// Chat measures what messages cost that are stored.
type Chat struct {
	Fleet            *fleet.Fleet // of one node, started
	DatabasePID      int
	Rounds           int
	Warmup, Duration time.Duration
	Size             int // bytes of a message
	Progress         func(format string, args ...any)
}

// Play plays a case as often as there are rounds.
func (c Chat) Play(ctx context.Context, one ChatCase) (runs []report.ChatRun, err error) {
	pool := c.Fleet.Client()
	defer pool.CloseIdleConnections()
	crowd := newCrowd(one.Rooms*one.Members, one.Members, c.Progress)
	c.Progress("%s: signing up %d users", one.Name, len(crowd.users))
	if err := crowd.signUp(ctx, c.Fleet.API(), pool); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	for range c.Rounds {
		run, err := c.once(ctx, one, crowd)
		if err != nil {
			return nil, fmt.Errorf("bench: %s: %w", one.Name, err)
		}
		c.Progress("%s: %.0f messages/s, %.0f a CPU second (server %.2f cores, database %.2f), ack p99 %.1f ms, %.1f a commit",
			one.Name, run.Stored, run.PerCPUSecond, run.ServerCores, run.DatabaseCores, run.Ack.P99, run.Batch)
		runs = append(runs, run)
	}
	return runs, nil
}

// chatRun is a case under way.
type chatRun struct {
	Chat
	ChatCase
	rooms                []peers.Room
	got                  []member // per room
	acked, sent, refused atomic.Int64
	ack, heard           *loadgen.Latencies
	measuring, closing   atomic.Bool
	fail                 context.CancelCauseFunc
}

func (c Chat) once(ctx context.Context, one ChatCase, crowd *crowd) (run report.ChatRun, err error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	r := &chatRun{Chat: c, ChatCase: one, got: make([]member, one.Rooms), ack: loadgen.NewLatencies(), heard: loadgen.NewLatencies(), fail: fail}
	defer r.leave()
	if err := r.enter(ctx, crowd); err != nil {
		return run, err
	}
	if err := pause(ctx, time.Second); err != nil {
		return run, err
	}
	loading, stop := context.WithCancel(ctx)
	var load sync.WaitGroup
	defer load.Wait()
	defer stop()
	r.load(loading, &load)
	if err := pause(ctx, c.Warmup); err != nil {
		return run, errors.Join(err, context.Cause(ctx))
	}
	before, err := r.measure(ctx)
	if err != nil {
		return run, err
	}
	r.measuring.Store(true)
	if err := pause(ctx, c.Duration); err != nil {
		return run, errors.Join(err, context.Cause(ctx))
	}
	r.measuring.Store(false)
	after, err := r.measure(ctx)
	if err != nil {
		return run, err
	}
	stop()
	load.Wait()
	run = after.since(before)
	run.Ack, run.Heard = report.QuantilesOf(r.ack.At, r.ack.Max()), report.QuantilesOf(r.heard.At, r.heard.Max())
	run.Refused = r.refused.Load()
	run.Lost, err = r.settle(ctx)
	return run, errors.Join(err, context.Cause(ctx))
}

// enter brings everybody into their rooms.
func (r *chatRun) enter(ctx context.Context, crowd *crowd) error {
	dialer := &client.Dialer{Transport: client.WebTransportOnly, TLS: r.Fleet.TLS()}
	for room := range r.Rooms {
		var members []peers.Member
		for _, u := range crowd.mates(room) {
			token, err := u.api.Token(ctx, "")
			if err != nil {
				return err
			}
			m := peers.Member{Token: token, WS: r.Fleet.Nodes[0].WS, JSON: r.JSON}
			if r.WebTransport {
				m.Dial = func(ctx context.Context) (client.Conn, error) { return dialer.Connect(ctx, r.Fleet.Endpoints(0)[0]) }
			}
			members = append(members, m)
		}
		in, err := peers.Muster(client.GroupRoom(crowd.groups[room]), members)(ctx, len(members), peers.Sink{
			Message: func(m int, sent time.Time) {
				r.got[room].got.Add(1)
				if (m+room)%16 == 0 && r.measuring.Load() {
					r.heard.Record(time.Since(sent))
				}
			},
			Moves: func(int, int, time.Time) {},
			Lost: func(m int, err error) {
				if !r.closing.Load() {
					r.fail(fmt.Errorf("member %d lost its connection: %w", m, err))
				}
			},
		})
		if err != nil {
			return err
		}
		r.rooms = append(r.rooms, in)
	}
	return nil
}

func (r *chatRun) leave() {
	r.closing.Store(true)
	for _, room := range r.rooms {
		room.Close()
	}
}

// load begins to send.
func (r *chatRun) load(ctx context.Context, load *sync.WaitGroup) {
	if r.Window > 0 {
		for room := range r.Rooms {
			for w := range r.Window {
				load.Go(func() { r.window(ctx, room, w) })
			}
		}
		return
	}
	load.Go(func() {
		_ = loadgen.Open(ctx, time.Now(), time.Duration(float64(time.Second)/r.PerSecond), 1<<40, func(i int, due time.Time) {
			r.send(ctx, i%r.Rooms, i/r.Rooms%r.Senders, due, nil)
		})
	})
}

// window keeps one message under way.
func (r *chatRun) window(ctx context.Context, room, w int) {
	next := make(chan struct{}, 1)
	for i := w; ; i += r.Window {
		r.send(ctx, room, i%r.Senders, time.Now(), func() { next <- struct{}{} })
		select {
		case <-next:
		case <-ctx.Done():
			return
		}
	}
}

func (r *chatRun) send(ctx context.Context, room, sender int, due time.Time, then func()) {
	r.sent.Add(1)
	err := r.rooms[room].Send(sender, due, r.Size, func(err error) {
		if err != nil {
			r.refused.Add(1)
		} else {
			r.acked.Add(1)
			if r.measuring.Load() {
				r.ack.Record(time.Since(due))
			}
		}
		if then != nil {
			then()
		}
	})
	if err != nil && ctx.Err() == nil {
		r.fail(err)
	}
}

// settle waits until everybody has heard all, and returns how many deliveries are
// missing (or were too many) when the time is up.
func (r *chatRun) settle(ctx context.Context) (missing int64, err error) {
	for deadline := time.Now().Add(settleLimit); ; {
		missing = r.acked.Load()*int64(r.Members) - r.heardBy()
		if under := r.sent.Load() - r.acked.Load() - r.refused.Load(); missing == 0 && under == 0 || time.Now().After(deadline) {
			return missing + under, nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

func (r *chatRun) heardBy() (n int64) {
	for i := range r.got {
		n += r.got[i].got.Load()
	}
	return n
}

// usage is what was used and done by a time.
type usage struct {
	at                       time.Time
	acked, got               int64
	server, database, client time.Duration
	stored, batches          float64
	commits                  []fleet.Bucket
}

func (r *chatRun) measure(ctx context.Context) (u usage, err error) {
	node := r.Fleet.Nodes[0]
	if u.commits, err = node.Histogram(ctx, "muster_chat_commit_seconds"); err != nil {
		return u, err
	}
	var errs [5]error
	u.stored, errs[0] = node.Metric(ctx, "muster_chat_batch_messages_sum")
	u.batches, errs[1] = node.Metric(ctx, "muster_chat_batch_messages_count")
	u.server, errs[2] = loadgen.TreeCPU(node.PID())
	u.database, errs[3] = loadgen.TreeCPU(r.DatabasePID)
	u.client, errs[4] = loadgen.CPU(0)
	u.at, u.acked, u.got = time.Now(), r.acked.Load(), r.heardBy()
	return u, errors.Join(errs[:]...)
}

func (u usage) since(b usage) report.ChatRun {
	seconds := u.at.Sub(b.at).Seconds()
	server, database := (u.server - b.server).Seconds(), (u.database - b.database).Seconds()
	return report.ChatRun{
		Stored:        float64(u.acked-b.acked) / seconds,
		Deliveries:    float64(u.got-b.got) / seconds,
		ServerCores:   server / seconds,
		DatabaseCores: database / seconds,
		ClientCores:   (u.client - b.client).Seconds() / seconds,
		PerCPUSecond:  float64(u.acked-b.acked) / (server + database),
		Batch:         (u.stored - b.stored) / max(1, u.batches-b.batches),
		Commit:        commitQuantiles(b.commits, u.commits),
	}
}

// commitQuantiles reads them off a histogram's growth, linearly between two bounds;
// beyond the last one they are that.
func commitQuantiles(before, after []fleet.Bucket) report.Quantiles {
	grown := make([]fleet.Bucket, len(after))
	for i, b := range after {
		grown[i] = b
		if i < len(before) {
			grown[i].Count -= before[i].Count
		}
	}
	return report.QuantilesOf(func(p float64) time.Duration { return quantile(grown, p/100) }, quantile(grown, 1))
}

func quantile(h []fleet.Bucket, p float64) time.Duration {
	if len(h) == 0 {
		return 0
	}
	want, lower, below := h[len(h)-1].Count*p, 0.0, 0.0
	for _, b := range h {
		if b.Count >= want && b.Count > below {
			if math.IsInf(b.Le, 1) {
				break
			}
			return time.Duration((lower + (b.Le-lower)*(want-below)/(b.Count-below)) * float64(time.Second))
		}
		if !math.IsInf(b.Le, 1) {
			lower = b.Le
		}
		below = b.Count
	}
	return time.Duration(lower * float64(time.Second))
}
