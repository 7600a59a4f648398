// Package turn is a TURN server (RFC 8656): it lends clients that cannot be reached an
// address that can, and carries their packets to and from it. See docs/adr/0117.
package turn
