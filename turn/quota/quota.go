// Package quota bounds what one user takes of a TURN server: allocations at a time,
// and bytes a second over all of them. Users are known by their id, not by the
// username of their credentials, which is another one each time. It has no sockets
// and reads no clock.
//
// Only users that hold an allocation are remembered, so there are never more of them
// than allocations. Their bytes are a token bucket that begins full; a user who frees
// the last allocation while the bucket is not full again is remembered until it would
// be, so that giving up and asking anew gains nothing.
package quota

import (
	"cmp"
	"sync"
	"time"
)

// Limits are what one user may take. The zero value of a field means its default, less
// than zero no limit.
type Limits struct {
	Allocations int     // at a time; 12: a call takes one for each transport and network of a device
	Bytes       float64 // a second, both directions together, as the peer sees them, with 28 of headers a packet; 2 MB
	Burst       float64 // bytes at once; 2 s of Bytes
}

func (l Limits) defaults() Limits {
	l.Allocations = cmp.Or(l.Allocations, 12)
	l.Bytes = cmp.Or(l.Bytes, 2_000_000)
	l.Burst = cmp.Or(l.Burst, 2*l.Bytes)
	return l
}

// Users is who holds what. It is safe for concurrent use.
type Users struct {
	limits Limits

	mu    sync.Mutex // guards the following
	users map[string]*User
	sweep time.Time // when those without allocations are looked at next
}

// User is one user that holds at least one allocation. It is safe for concurrent use.
type User struct {
	id          string
	allocations int // guarded by Users.mu

	mu    sync.Mutex // guards the following
	used  float64    // bytes taken and not yet gained back
	at    time.Time
	limit *Limits
}

// New returns an empty book.
func New(l Limits) *Users {
	return &Users{limits: l.defaults(), users: map[string]*User{}}
}

// Acquire takes one allocation of a user, or reports false if that would be one too
// many.
func (u *Users) Acquire(now time.Time, id string) (*User, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.forget(now)
	user := u.users[id]
	if user == nil {
		user = &User{id: id, at: now, limit: &u.limits}
		u.users[id] = user
	}
	if u.limits.Allocations >= 0 && user.allocations >= u.limits.Allocations {
		return nil, false
	}
	user.allocations++
	return user, true
}

// Release gives back what Acquire took.
func (u *Users) Release(now time.Time, user *User) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if user.allocations--; user.allocations == 0 && user.full(now) {
		delete(u.users, user.id)
	}
}

// forget drops those who hold nothing and owe nothing, once in a while.
func (u *Users) forget(now time.Time) {
	if now.Before(u.sweep) {
		return
	}
	u.sweep = now.Add(10 * time.Second)
	for id, user := range u.users {
		if user.allocations == 0 && user.full(now) {
			delete(u.users, id)
		}
	}
}

// Len is how many users are remembered.
func (u *Users) Len() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.users)
}

// Take takes n bytes, or none and reports false: then the packet is dropped, which is
// what a network that is full does, and what congestion control expects.
func (u *User) Take(now time.Time, n int) bool {
	if u.limit.Bytes < 0 {
		return true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.refill(now)
	if u.used+float64(n) > u.limit.Burst {
		return false
	}
	u.used += float64(n)
	return true
}

func (u *User) full(now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.refill(now)
	return u.used == 0
}

func (u *User) refill(now time.Time) {
	if d := now.Sub(u.at); d > 0 { // a clock that went back gains nothing
		u.used = max(0, u.used-d.Seconds()*u.limit.Bytes)
		u.at = now
	}
}
