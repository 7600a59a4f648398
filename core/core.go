// Package core holds the nouns that the domain packages below it share: the
// ids of users, groups, logins and fleets. What must never be lost lives under core,
// in SQL; what must be fast and may be soft lives under edge.
package core

import (
	"strings"

	"github.com/google/uuid"
)

// Ids are random UUIDs (version 4): they spread writes over CockroachDB's
// ranges and can be made without asking the database.
type (
	UserID  uuid.UUID
	GroupID uuid.UUID
	LoginID uuid.UUID // a login is an authenticated device: one refresh token family
	FleetID uuid.UUID // a fleet is many subjects, whose fixes come through gateways
)

func (id UserID) String() string  { return uuid.UUID(id).String() }
func (id GroupID) String() string { return uuid.UUID(id).String() }
func (id LoginID) String() string { return uuid.UUID(id).String() }
func (id FleetID) String() string { return uuid.UUID(id).String() }

// Room returns the id of the group's room, "group:<uuid>".
func (id GroupID) Room() string { return "group:" + id.String() }

// DirectRoom is the id of the room of two people: what they write to each other, and
// where they are, as far as they share that.
func DirectRoom(a, b UserID) string {
	x, y := a.String(), b.String()
	return "direct:" + min(x, y) + ":" + max(x, y)
}

// DirectOther returns whom a user shares a room of two with; false if this is no
// such room, or another's.
func DirectOther(user UserID, room string) (other UserID, ok bool) {
	pair, ok := strings.CutPrefix(room, "direct:")
	x, y, _ := strings.Cut(pair, ":")
	if !ok {
		return other, false
	}
	if x == user.String() {
		x = y
	}
	other, err := ParseUserID(x)
	return other, err == nil && other != user && DirectRoom(user, other) == room
}

// GroupOf returns the group whose room this is; false for any other room id.
func GroupOf(room string) (GroupID, bool) {
	s, ok := strings.CutPrefix(room, "group:")
	if !ok {
		return GroupID{}, false
	}
	id, err := uuid.Parse(s)
	if err != nil || id.String() != s { // only the canonical form names a room
		return GroupID{}, false
	}
	return GroupID(id), true
}
