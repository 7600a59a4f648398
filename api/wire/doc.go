// Package wire is the session protocol, version 1: the frames that a client
// and its edge node exchange, how they are framed, and the codes by which they
// fail. It knows no sockets, so that both ends build on it: edge/transport and
// edge/session on the server, client (the Go SDK) on the other side.
//
//	wire.proto   the frames; *.pb.go are generated from it
//	codec.go     framing on streams and in messages, the JSON form, limits
//	check.go     what makes an input valid: rooms, devices, fixes, messages
//	codes.go     error codes
//	close.go     close codes, whose range says what a client does next
//
// docs/protocol.md is the same for people who write a client in another
// language; change both together.
//
// # Version history
//
//	1  the first
//
// Within a version fields are only added. A receiver ignores fields that it
// does not know; a client ignores server frames whose body it does not know; a
// server answers bad_frame to a client frame whose body it does not know.
package wire
