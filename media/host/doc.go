// Package host is a node's part in calls. It has two sides:
//
//	sessions   what a session of this node asks about a call is passed to the SFU of
//	           the region for that call, which the region's roster names; what that
//	           SFU says goes to the session. If the call gets another SFU, the
//	           sessions are joined there by themselves.
//	SFU        of each call that this node is the SFU of it runs the machine
//	           (media/call), and does what that says with the packets (media/sfu),
//	           the SFUs of other regions (media/cascade) and the floor.
//
// A call's machine and all that belongs to it are guarded by one lock; nothing is
// called under it that blocks or that calls back.
package host
