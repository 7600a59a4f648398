package nemesis

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/client/roomstate"
)

// Revision is what somebody makes of a message over HTTP.
type Revision struct {
	Number uint64
	Body   string // an edit, unless it is empty
	Emoji  string // a reaction of the user's, unless it is empty
	Pin    bool   // else a pin
	On     bool   // of a reaction or pin
	Delete bool   // for everyone
}

// of returns what becomes of a message, nil if it is so already.
func (v Revision) of(m *wire.Message, user string) *wire.Message {
	now := proto.CloneOf(m)
	switch {
	case m.Deleted:
		return nil
	case v.Delete:
		now.Body, now.Deleted, now.Pinned, now.Reactions = "", true, false, nil
	case v.Body != "":
		now.Body = v.Body
	case v.Pin:
		now.Pinned = v.On
	default:
		now.Reactions = react(now.Reactions, v.Emoji, user, v.On)
	}
	if proto.Equal(now, m) {
		return nil
	}
	return now
}

func react(list []*wire.Reaction, emoji, user string, on bool) []*wire.Reaction {
	i := slices.IndexFunc(list, func(r *wire.Reaction) bool { return r.Emoji == emoji })
	if i < 0 && on {
		return append(list, &wire.Reaction{Emoji: emoji, Count: 1, Users: []string{user}})
	}
	if i < 0 || slices.Contains(list[i].Users, user) == on {
		return list
	}
	if r := list[i]; on {
		r.Users = append(r.Users, user)
	} else {
		r.Users = slices.DeleteFunc(r.Users, func(u string) bool { return u == user })
	}
	list[i].Count = uint32(len(list[i].Users))
	return slices.DeleteFunc(list, func(r *wire.Reaction) bool { return r.Count == 0 })
}

// Kept is what the database has of a room's conversation.
type Kept struct {
	Messages []*wire.Message
	Change   uint64 // the last one
	Receipts map[string]client.Seen
}

// revise has something become of a message that the device has heard of late: edits and
// deletes are of its user's own. It is asked for until it is answered.
func (d *device) revise() {
	room := d.anyRoom()
	if room == nil {
		return
	}
	known, n := room.Messages(), d.rng.IntN(10)
	if n < 5 || n == 9 { // one's own alone
		known = slices.DeleteFunc(known, func(m client.Message) bool { return m.Sender != d.key.User })
	}
	if len(known) == 0 {
		return
	}
	v := Revision{Number: known[len(known)-1-d.rng.IntN(min(len(known), 10))].Number}
	d.revised++
	switch {
	case n < 5:
		v.Body = fmt.Sprintf("%s makes %d of it", d.key.Device, d.revised)
	case n < 8:
		v.Emoji, v.On = []string{"👍", "🎉"}[d.rng.IntN(2)], d.rng.IntN(3) > 0
	case n < 9:
		v.Pin, v.On = true, d.rng.IntN(3) > 0
	default:
		v.Delete = true
	}
	run := d.run
	for {
		m, err := d.net.revise(d.patience, d.key.User, room.ID(), v)
		if err == nil {
			d.history.revised(run, room.ID(), m)
			return
		}
		if !d.pause(d.patience, 50*time.Millisecond, 200*time.Millisecond) {
			return
		}
	}
}

// read reads up to one of the last messages, often one that was read before.
func (d *device) read() {
	if room := d.anyRoom(); room != nil {
		if known := room.Messages(); len(known) > 0 {
			room.Read(known[len(known)-1-d.rng.IntN(min(len(known), 10))].Number)
		}
	}
}

// learn reads the receipts of a room that may have been told while the device was
// away, as an application has to.
func (d *device) learn(room *client.Room) {
	for room.Err() == nil {
		list, err := d.net.receipts(d.patience, d.key.User, room.ID())
		if err == nil {
			room.Learn(list...)
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-d.patience.Done():
			return
		}
	}
}

// progress is core/chat's Receipts of one life of a node: what devices say is kept
// for 200 ms, stored with that of others, and told. What waits when the node is killed
// is lost, and so is what is stored and not yet told.
type progress struct {
	stores  *stores
	publish func(room string, seen []*wire.Seen)
	work    sync.WaitGroup

	mu      sync.Mutex // guards the following
	over    bool
	planned bool
	waiting map[mark]client.Seen
	again   map[mark]bool // an attempt failed that may have stored it: it is told as news
}

type mark struct{ room, user string }

const receiptsFlush = 200 * time.Millisecond

// Advance satisfies edge.Progress.
func (p *progress) Advance(room, user, _ string, delivered, read uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addLocked(mark{room, user}, client.Seen{User: user, Delivered: delivered, Read: read})
}

// Lately satisfies edge.Progress.
func (p *progress) Lately(ctx context.Context, room string) ([]*wire.Seen, error) {
	return p.stores.lately(ctx, room)
}

func (p *progress) addLocked(k mark, s client.Seen) {
	if p.waiting == nil {
		p.waiting = map[mark]client.Seen{}
	}
	p.waiting[k] = further(p.waiting[k], s)
	if p.over || p.planned {
		return
	}
	p.planned = true
	p.work.Go(func() {
		time.Sleep(receiptsFlush)
		p.mu.Lock()
		batch, again, over := p.waiting, p.again, p.over
		p.waiting, p.again, p.planned = nil, nil, false
		p.mu.Unlock()
		if over {
			return
		}
		news, err := p.stores.advance(batch, again)
		if err != nil {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.again == nil {
				p.again = map[mark]bool{}
			}
			for k, s := range batch {
				p.again[k] = true
				p.addLocked(k, s)
			}
			return
		}
		for room, seen := range news {
			p.publish(room, seen)
		}
	})
}

func (p *progress) stop() {
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
	p.work.Wait()
}

func further(a, b client.Seen) client.Seen {
	read := max(a.Read, b.Read)
	return client.Seen{User: b.User, Delivered: max(a.Delivered, b.Delivered, read), Read: read}
}

// stateOf is what can become of a message.
func stateOf(m client.Message) string {
	s := fmt.Sprintf("%d change %d: %q deleted %v pinned %v", m.Number, m.Change, m.Body, m.Deleted, m.Pinned)
	for _, r := range m.Reactions {
		s += fmt.Sprintf(" %s×%d", r.Emoji, r.Count)
	}
	return s
}

func wireState(m *wire.Message) string { return stateOf(roomstate.MessageOf(m)) }
