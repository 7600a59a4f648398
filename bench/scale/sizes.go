package scale

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
)

// packet is what a frame costs beside its bytes when it travels alone: IPv4 and
// UDP (28), QUIC's short header and tag (25), the frame's length and QUIC's
// STREAM frame (8), and its share of acknowledgements (a packet of 60 for every
// second one).
const packet = 28 + 25 + 8 + 30

// frames are sizes in bytes: of what goes once per update, a packet included.
type frames struct {
	fix, message, presence, subscribe float64
	standing, slots, digest           int
}

const (
	aRoom = "group:8c0e3e3e-7d2c-4a0a-9a53-0a7c1b1a5f10"
	aUser = "4f1c2d3e-7d2c-4a0a-9a53-0a7c1b1a5f10"
)

// sizes encodes one of each frame, with the names and numbers of a real mesh.
func sizes(c Config) frames {
	now := timestamppb.New(time.UnixMilli(1_800_000_000_123))
	at := &wire.Position{Region: "ap-southeast", Epoch: 12, Seq: 123_456}
	device := &wire.Device{
		Device: "d-5f10a9530a7c1b1a", Epoch: 1_800_000_000_123, State: wire.State_LIVE, Region: at.Region, Node: "ap-southeast-2",
		Transport: wire.Transport_WEBTRANSPORT, Since: now,
	}
	fix := &wire.ServerFrame{Body: &wire.ServerFrame_Fixes{Fixes: &wire.Fixes{Room: aRoom, Fixes: []*wire.MemberFix{{
		User: aUser, Device: device.Device, Epoch: device.Epoch,
		Fix: &wire.Fix{Point: &wire.Point{Lat: 52.52, Lng: 13.4}, Accuracy: 5, Captured: now, N: 1234},
	}}}}}
	message := &wire.ServerFrame{Body: &wire.ServerFrame_Event{Event: &wire.Event{Room: aRoom, At: at, Body: &wire.Event_Message{Message: &wire.Message{
		Number: 12_345, Id: aUser, Sender: aUser, SenderName: "Ada Lovelace", ClientId: "d-5f10a9530a7c1b1a", Body: strings.Repeat("x", 128), SentAt: now,
	}}}}}
	presence := &wire.ServerFrame{Body: &wire.ServerFrame_Event{Event: &wire.Event{Room: aRoom, At: at, Body: &wire.Event_Presence{Presence: &wire.Presence{
		People: []*wire.Person{{User: aUser, Name: "Ada Lovelace", Devices: []*wire.Device{device}}}, Counts: &wire.Counts{Live: 7},
	}}}}}
	event := func(f *wire.ServerFrame) float64 {
		return packet + size(&peer.Frame{Epoch: 12, Body: &peer.Frame_Event{Event: &peer.Event{Room: aRoom, At: at, Version: 9, Frame: encode(f)}}})
	}
	standing := &peer.Standing{Region: at.Region, Term: 12, Count: 123_456}
	for i := range c.Nodes {
		host := fmt.Sprintf("node-%d.ap-southeast.muster.example", i+1)
		standing.Nodes = append(standing.Nodes, &peer.NodeStanding{
			Id: fmt.Sprintf("ap-southeast-%d", i+1), State: 1, Sessions: 40_000, Capacity: 100,
			Peer: host + ":7000", Http: "https://" + host, Ws: "wss://" + host + "/ws", Wt: "https://" + host + "/wt",
		})
	}
	slots := &peer.Slots{Region: at.Region, Owners: make([]uint32, regions.Slots), Epochs: make([]uint64, regions.Slots)}
	digest := &peer.Digest{Round: 12, Slots: make([]uint32, regions.Slots), Hashes: make([]uint64, regions.Slots)}
	for i := range regions.Slots {
		slots.Owners[i], slots.Epochs[i] = uint32(i%c.Nodes+1), uint64(200+i)
		digest.Slots[i] = uint32(i)
	}
	for i := range c.Nodes {
		slots.Nodes = append(slots.Nodes, fmt.Sprintf("ap-southeast-%d", i+1))
	}
	return frames{
		fix: packet + size(&peer.Frame{Epoch: 12, Body: &peer.Frame_Fixes{Fixes: &peer.Fixes{
			Room: aRoom, Region: at.Region, Epoch: 12, Version: 9, Frame: encode(fix),
		}}}),
		message: event(message), presence: event(presence),
		subscribe: packet + size(&peer.Frame{Epoch: 12, Body: &peer.Frame_Subscribe{Subscribe: &peer.Subscribe{Room: aRoom}}}),
		standing:  packet + int(size(&peer.Frame{Body: &peer.Frame_Standing{Standing: standing}})),
		slots:     3*packet + int(size(&peer.Frame{Body: &peer.Frame_Slots{Slots: slots}})),
		digest:    12*packet + int(size(&peer.Frame{Body: &peer.Frame_Digest{Digest: digest}})),
	}
}

func size(f *peer.Frame) float64 { return float64(f.SizeVT()) }

func encode(f *wire.ServerFrame) []byte {
	b, err := f.MarshalVT()
	if err != nil {
		panic(err) // what is made here can be encoded
	}
	return b
}
