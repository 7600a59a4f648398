package db

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
)

// wakes tells the parts of a process that share a DB what was committed through
// it. It is a hint that saves a poll's wait and nothing more: it isn't heard in
// other processes, and is lost with this one.
type wakes struct {
	mu        sync.Mutex // guards listeners
	listeners map[string][]*listener
}

type listener struct{ hear func(what string) }

// OnWake has hear called with what Wake says on topic, until stop is called. It
// must not block. Where several listen, as the nodes of a test process, one of
// them hears, by chance.
func (d *DB) OnWake(topic string, hear func(what string)) (stop func()) {
	l := &listener{hear}
	d.wakes.mu.Lock()
	defer d.wakes.mu.Unlock()
	if d.wakes.listeners == nil {
		d.wakes.listeners = map[string][]*listener{}
	}
	d.wakes.listeners[topic] = append(d.wakes.listeners[topic], l)
	return func() {
		d.wakes.mu.Lock()
		defer d.wakes.mu.Unlock()
		d.wakes.listeners[topic] = slices.DeleteFunc(d.wakes.listeners[topic], func(x *listener) bool { return x == l })
	}
}

func (d *DB) wake(topic, what string) {
	d.wakes.mu.Lock()
	var l *listener
	if ls := d.wakes.listeners[topic]; len(ls) > 0 {
		l = ls[rand.IntN(len(ls))]
	}
	d.wakes.mu.Unlock()
	if l != nil {
		l.hear(what)
	}
}

// Wake tells a listener of topic what is there to be seen, once the transaction
// that ctx belongs to has committed. With a ctx that belongs to none it does
// nothing.
func Wake(ctx context.Context, topic, what string) {
	if u := member(ctx).unit; u != nil {
		AfterCommit(ctx, func(context.Context) { u.db.wake(topic, what) })
	}
}
