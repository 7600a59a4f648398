// Package groups is the groups, their members, their invites, whom they ban, and
// the directory of those that are public.
//
// # Roles
//
// A group has exactly one owner, any number of admins, and members.
//
//	                                   owner  admin  member
//	read, leave, invite, own invites     ✓*     ✓      ✓
//	change name, settings                ✓      ✓
//	all invites, remove or ban a member  ✓      ✓
//	bans of others, list and end bans    ✓      ✓
//	remove or ban an admin, change roles ✓
//	transfer ownership, delete           ✓
//
// (*) An owner leaves only when alone, and the group goes with them; before
// that ownership is transferred. Concurrent requests keep that true because
// each is one SERIALIZABLE transaction that reads the roles it relies on.
// To everybody else a group doesn't exist: they get ErrNotMember either way.
//
// # Versions
//
// Every change of the group or its members adds one to its version, in the
// same transaction. Then Announcer is told, before the request is answered: so
// somebody who is removed is out of the group's room before the removal is
// acknowledged. Member reads role, name and version in one statement, so that
// an edge that knows version n can tell an answer from before n.
//
// # Events
//
// Each change also leaves an event in the outbox, in its transaction (the kinds
// are in core): for the group's room, and if it is about somebody for all of their
// devices, since they may not be in the room. So whoever watches a group reads it
// again when it changed, and never has to ask.
//
// # Settings
//
// Settings are the apps' own, but for three: visibility (private, public), invites
// (members, admins) and max_members. They are checked when they are set.
//
// A public group is in the directory, without its members, and everybody may join
// it. The directory is read from terms (core.SearchTerms), which are written in
// the transaction that changed the name or the visibility; a group that was
// public stays everybody's who is in it.
//
// # Bans
//
// Who is banned is put out and comes in by no code, old or new, nor from the
// directory. Each way in first locks the group's row, as a ban does, and then
// looks: so a ban and a join at the same time come out as one after the other, and
// either way the banned one is out.
//
// # Invites
//
// A code has ten of the thirty symbols of Crockford's base 32 that are no
// vowels (so no word appears by chance), 49 bits from the system's random
// source. It expires, may be used a number of times, and can be revoked;
// joining again is a success that uses nothing up.
package groups
