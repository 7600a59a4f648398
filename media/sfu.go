package media

import (
	"time"

	"github.com/mustermesh/muster/api/wire"
)

// Codec is what a track is encoded with, as in its media section (RFC 8866).
type Codec struct {
	MIME      string // "audio/opus", "video/VP8"
	ClockRate uint32 // Hz
	Channels  uint16 // of audio
	Params    string // of a=fmtp
}

// Track is something that a participant sends into a call.
type Track struct {
	ID     string // 12 characters of base62, random: unique in the call
	Source wire.CallSource
	Video  bool
	Layers int // of simulcast, 1 to 3; the first is the smallest
	Codec  Codec
}

// Wire is its form for clients.
func (t Track) Wire() *wire.CallTrack {
	return &wire.CallTrack{Id: t.ID, Source: t.Source, Video: t.Video, Simulcast: t.Layers > 1}
}

// Layers is a set of simulcast layers: bit n is layer n.
type Layers uint8

// AllLayers are those that a track may have.
const AllLayers Layers = 0b111

// Packet is one RTP packet on its way between an SFU and a cascade, in the form that
// the SFUs of all nodes agree on (media/sfu): identifiers of header extensions and the
// payload type are theirs, not the participant's.
type Packet struct {
	Layer int
	RTP   []byte // header and payload; valid during the call only
}

// SFU is a node's media server (media/sfu): it takes packets from participants and
// from other SFUs and hands them to participants and to other SFUs. It knows no calls.
type SFU interface {
	// Join makes a peer's place; nothing is connected before it describes itself.
	Join(c PeerConfig) (Peer, error)
	// Remote makes a track that comes from another SFU, packet by packet.
	Remote(t Track, e RemoteEvents) Remote
}

// PeerConfig says who joins.
type PeerConfig struct {
	Name   string // for logs and errors: no user's name
	Events PeerEvents
	// TrackID names what is published: the same source of a participant has the same
	// name at every SFU and after every reconnect. Of two of the same source in one
	// offer the later one counts.
	TrackID func(source wire.CallSource) string
}

// PeerEvents is who hears of a peer. The methods are called in order, by one goroutine
// at a time of the SFU, under none of its locks; they don't block.
type PeerEvents interface {
	// Describe is a description for the client: the answer for "up" or an offer for
	// "down". place is for the receiver to set.
	Describe(d *wire.CallDescription)
	// Published: the participant sends this, or is about to.
	Published(s Source)
	// Unpublished: and not any more.
	Unpublished(track string)
	// Quality of what the participant gets.
	Quality(q *wire.CallQuality)
	// Connected: media can flow on the connection, or can't any more. A connection that
	// is not there for long is not ended by the SFU.
	Connected(c wire.CallDescription_Connection, yes bool)
}

// Peer is a participant's two connections. Its methods are safe for use by several
// goroutines; they don't block for the network.
type Peer interface {
	// Describe takes the client's offer for "up", its answer for "down", or its wish
	// for a restart. ErrBadDescription and what it wraps are for the client. A
	// description that was overtaken is ignored.
	Describe(d *wire.CallDescription) error
	Candidate(c *wire.CallCandidate) error
	// Subscribe says, wholly, which tracks the participant gets. Tracks that are new or
	// gone are offered anew; the rest is a matter of which packets flow. Another Source
	// with the name of one that the participant gets takes its place (its sender is at
	// another SFU now, or connected anew): no new offer, and its packets go on under the
	// numbers and times of those before, so that nobody hears the change.
	Subscribe(s []Subscription)
	// Flow pauses or resumes one of them, without a new offer.
	Flow(track string, flow bool)
	// Offer is the offer for "down" that waits for its answer; nil: none does. For a
	// client that may not have got it.
	Offer() *wire.CallDescription
	// Close ends both connections and unpublishes all. No event comes afterwards.
	Close()
}

// Subscription is a track that a participant gets.
type Subscription struct {
	Source Source
	Height uint32 // of a picture as it is shown, in pixels; 0 for video: not shown, nothing flows
	Flow   bool   // else nothing flows for now
}

// Source is a track as an SFU has it: of a peer, or from another SFU.
type Source interface {
	Track() Track
	// Tap has every packet of these layers given to f, by the goroutine that received it,
	// until the result is called. f must not block nor keep the packet.
	Tap(layers Layers, f func(Packet)) (remove func())
	// KeyFrame asks the sender for one. It is limited by itself.
	KeyFrame(layer int)
	// Gate: nothing is forwarded from this time on, neither to peers nor to taps. Zero:
	// without an end. It may be set again and again.
	Gate(until time.Time)
	// Level is how loud it is, in -dBov (RFC 6464): 0 the loudest, 127 silence or
	// unknown; over the last moments, smoothed.
	Level() uint8
}

// Remote is a Source whose packets come from another SFU.
type Remote interface {
	Source
	// Write takes a packet; it keeps nothing of it.
	Write(p Packet)
	// Lost tells that packets from there did not come and will not: pictures need a key
	// frame.
	Lost(layer int)
	Close()
}

// RemoteEvents are what an SFU wants of a track of another one.
type RemoteEvents interface {
	// Wanted tells which layers its peers get, or are about to get: the others need not
	// be sent here. For sound it is 1 or 0.
	Wanted(l Layers)
	KeyFrame(layer int)
}
