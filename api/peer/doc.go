// Package peer holds the frames that nodes exchange: room events and their
// relay between a room's owner, the nodes of its region and the owners in other
// regions, and the few calls that want an answer. They travel over
// regions/peerlink; edge/hub gives them their meaning. peer.proto is the
// source.
package peer
