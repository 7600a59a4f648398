// Package call is one call as one SFU node sees it: who is in it here and at the
// other SFU nodes, what they send, which of that is wanted where, and what each
// participant here has been told. It is a pure state machine: no goroutine, lock,
// socket or clock. Every method takes the time where it matters and collects Effects,
// which the host (media/host) takes and carries out.
//
// # Parts
//
// Each SFU node is the only writer of its part: the sessions that joined at it, and
// their tracks. It tells the other SFU nodes of the call the whole of it when they meet
// or after a link broke, and changes after that. A part has a version; a change names
// the version that it goes from, and every second the version is told without a change.
// Who sees that it lacks something asks for the whole. So any loss of frames heals
// within a second, and nodes that hear each other agree.
//
//	Meet ──▶ whole part, both ways ──▶ changes … ──▶ silent ──30 s──▶ dropped (region_lost)
//	                 ▲                     │  version does not fit, link was reset
//	                 └──────── again ◀─────┘
//
// A participant is a (user, device). It may be in more than one part: while an SFU
// node drains, when one was lost and its sessions are at another one, after a reconnect
// in another region. The highest session epoch is the truth; among equal ones the
// highest place. Because a participant stays as long as any part has it, none of that
// makes it leave and come again.
//
// # Tracks
//
// A track's id follows from its participant and source (media.TrackID), so it is the same
// wherever its sender is connected. Of several SFU nodes that have it, one is the
// source here; when a better one appears it is wanted as well, and takes over when its
// first packet has come or a moment has passed: make before break.
//
// # A node that is not the call's SFU any more
//
// After Supersede it takes nobody in. Each of its participants stays until it is
// connected at the new SFU with all that it sends, or the deadline comes.
package call
