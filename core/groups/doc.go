// Package groups is the groups, their members and their invites.
//
// # Roles
//
// A group has exactly one owner, any number of admins, and members.
//
//	                                   owner  admin  member
//	read, leave, invite, own invites     ✓*     ✓      ✓
//	change name, settings                ✓      ✓
//	all invites, remove a member         ✓      ✓
//	remove an admin, change roles        ✓
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
// # Invites
//
// A code has ten of the thirty symbols of Crockford's base 32 that are no
// vowels (so no word appears by chance), 49 bits from the system's random
// source. It expires, may be used a number of times, and can be revoked;
// joining again is a success that uses nothing up.
package groups
