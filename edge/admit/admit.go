// Package admit decides how much a client may send: token buckets per session,
// connections per address, sessions per node. It does no I/O and reads no
// clock; whoever asks passes the time.
//
// A token bucket (the "leaky bucket as a meter" of ITU-T I.371) holds up to
// Burst tokens and gains PerSecond of them; what finds too few is refused and
// told when there will be enough. A refusal takes no tokens, so an honest
// client that waits as told is served. A client that keeps sending anyway
// drains a second bucket, Abuse times as large, that only refused frames draw
// from: when that one is empty too, the connection is closed.
package admit

import (
	"cmp"
	"time"
)

// Rate is a bucket's size and gain.
type Rate struct{ PerSecond, Burst float64 }

// times returns a rate n times as large.
func (r Rate) times(n float64) Rate { return Rate{r.PerSecond * n, r.Burst * n} }

// Bucket is a token bucket. The zero value is full.
type Bucket struct {
	used float64 // tokens taken and not yet gained back
	at   time.Time
}

// Take takes n tokens, or takes none and returns how long to wait for them.
// n beyond the burst counts as the whole burst: a single large thing is slow,
// not impossible.
func (b *Bucket) Take(now time.Time, r Rate, n float64) (wait time.Duration) {
	b.refill(now, r)
	n = min(n, r.Burst)
	if lack := b.used + n - r.Burst; lack > 0 {
		return max(time.Millisecond, time.Duration(lack/r.PerSecond*float64(time.Second)))
	}
	b.used += n
	return 0
}

// full reports whether nothing is remembered that a new bucket doesn't know.
func (b *Bucket) full(now time.Time, r Rate) bool {
	b.refill(now, r)
	return b.used == 0
}

func (b *Bucket) refill(now time.Time, r Rate) {
	if d := now.Sub(b.at); d > 0 { // a clock that went back gains nothing
		b.used = max(0, b.used-d.Seconds()*r.PerSecond)
		b.at = now
	}
}

// Kind is what a frame asks for, as far as limits differ.
type Kind int

const (
	Other Kind = iota
	Message
	Fix
	Receipt
	Typing
	Call
)

// Limits are what one session may send. The zero value of a field means its
// default.
type Limits struct {
	Frames   Rate // of any kind
	Bytes    Rate
	Messages Rate
	Fixes    Rate
	Receipts Rate
	Typing   Rate
	Calls    Rate    // requests about calls
	Errors   Rate    // answers to frames that did not ask for one
	Abuse    float64 // how many times over the limits closes the connection
}

// Defaults fills in what is zero, for a user: a person with a phone doesn't come
// near.
func (l Limits) Defaults() Limits {
	return l.or(Limits{
		Frames: Rate{100, 300}, // a resume joins 64 rooms at once
		Bytes:  Rate{128 << 10, 512 << 10}, Messages: Rate{10, 50}, Fixes: Rate{50, 100},
		Receipts: Rate{20, 200}, Typing: Rate{2, 10},
		Calls:  Rate{25, 150}, // candidates come in a burst, wants while somebody scrolls
		Errors: Rate{5, 20}, Abuse: 10,
	})
}

// GatewayDefaults fills in what is zero, for a gateway of a fleet: its subjects have
// limits of their own, and this is what keeps it from taking a whole node.
func (l Limits) GatewayDefaults() Limits {
	return l.or(Limits{
		Frames: Rate{50_000, 100_000}, Bytes: Rate{64 << 20, 128 << 20}, Fixes: Rate{200_000, 400_000},
	}).Defaults()
}

func (l Limits) or(d Limits) Limits {
	return Limits{
		Frames: cmp.Or(l.Frames, d.Frames), Bytes: cmp.Or(l.Bytes, d.Bytes), Messages: cmp.Or(l.Messages, d.Messages),
		Fixes: cmp.Or(l.Fixes, d.Fixes), Receipts: cmp.Or(l.Receipts, d.Receipts), Typing: cmp.Or(l.Typing, d.Typing), Calls: cmp.Or(l.Calls, d.Calls), Errors: cmp.Or(l.Errors, d.Errors), Abuse: cmp.Or(l.Abuse, d.Abuse),
	}
}

// Verdict is the answer to a frame.
type Verdict struct {
	Wait  time.Duration // 0: admitted; else refused until then
	Close bool          // refused so often that the connection has to go
}

// Client meters one session. The zero value is ready. It is not safe for
// concurrent use: the session's reader owns it.
type Client struct {
	frames, bytes, messages, fixes, errors, abuse Bucket

	talk *struct{ receipts, typing, calls Bucket } // nil: none yet, as most sessions at rest
}

// Frame meters a frame of the given kind, with so many of what that is, and size in
// bytes.
func (c *Client) Frame(now time.Time, l *Limits, k Kind, of, size int) Verdict {
	wait := max(c.frames.Take(now, l.Frames, 1), c.bytes.Take(now, l.Bytes, float64(size)))
	if wait == 0 {
		if c.talk == nil && (k == Receipt || k == Typing || k == Call) {
			c.talk = new(struct{ receipts, typing, calls Bucket })
		}
		switch k {
		case Message:
			wait = c.messages.Take(now, l.Messages, float64(of))
		case Fix:
			wait = c.fixes.Take(now, l.Fixes, float64(of))
		case Receipt:
			wait = c.talk.receipts.Take(now, l.Receipts, 1)
		case Typing:
			wait = c.talk.typing.Take(now, l.Typing, 1)
		case Call:
			wait = c.talk.calls.Take(now, l.Calls, 1)
		}
	}
	if wait == 0 {
		return Verdict{}
	}
	return Verdict{Wait: wait, Close: c.abuse.Take(now, l.Frames.times(l.Abuse), 1) > 0}
}

// Unasked reports whether a refusal that the client did not ask for (of a
// frame without id) may be sent.
func (c *Client) Unasked(now time.Time, l *Limits) bool { return c.errors.Take(now, l.Errors, 1) == 0 }
