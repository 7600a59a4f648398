// Package peers speaks to servers of ours and of others as cheaply as a client
// can, so that a benchmark of several measures the servers.
//
// Rooms are those of Muster and channels of Centrifugo: one WebSocket a member,
// frames counted and never decoded whole. The SDKs do much more; what they do
// costs the client. Points are a fleet's subjects in Muster, through the Go SDK,
// and the keys of Tile38 and Redis.
package peers

import (
	"context"
	"time"
)

// Room is a crowd in one room of a server.
type Room interface {
	// Name of the server.
	Name() string
	// Send publishes a message of the n-th member, of about size bytes, that
	// carries the time. Done, if not nil, is called with the answer.
	Send(member int, at time.Time, size int, done func(error)) error
	// Move reports where the n-th member is.
	Move(member, k int, at time.Time) error
	// Close leaves.
	Close()
}

// Sink takes what members of a room get. Its methods are called by one goroutine
// for each member.
type Sink struct {
	// Message takes a message: who got it, and the time that it carries.
	Message func(member int, sent time.Time)
	// Moves takes positions of n members, the first of which carries the time.
	Moves func(member, n int, sent time.Time)
	// Lost tells that a member's connection ended.
	Lost func(member int, err error)
}

// Opener brings members into a room.
type Opener func(ctx context.Context, members int, sink Sink) (Room, error)

const openAtOnce = 32
