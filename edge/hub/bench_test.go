package hub

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/regions"
)

// lone is a hub that owns everything, without links.
type lone struct{}

func (lone) Slot(int) (regions.NodeID, regions.Epoch)                           { return "a1", 1 }
func (lone) SlotIn(regions.RegionID, int) (regions.NodeID, regions.Epoch)       { return "", 0 }
func (lone) Others() []regions.RegionID                                         { return nil }
func (lone) RegionOf(regions.NodeID) regions.RegionID                           { return "a" }
func (lone) Send(regions.NodeID, *peer.Frame)                                   {}
func (lone) SendFixes(regions.NodeID, *peer.Fixes)                              {}
func (lone) Touch(string, time.Time)                                            {}
func (lone) Current() bool                                                      { return true }
func (lone) Newest(string, string) regions.Epoch                                { return 0 }
func (lone) Read(context.Context) error                                         { return nil }
func (lone) Stays(string) []regions.Stay                                        { return nil }
func (lone) RoomsIn(int) []string                                               { return nil }
func (lone) HeardOwner(regions.RegionID, string, regions.NodeID, regions.Epoch) {}
func (lone) Seen(regions.SessionID, regions.RegionID)                           {}
func (lone) Member(context.Context, string, string, uint64) (edge.Membership, error) {
	return edge.Membership{}, nil
}

func (lone) Last(context.Context, string) (edge.Last, error) { return edge.Last{}, nil }

// sink is a client that only counts.
type sink struct {
	member *peer.Member
	n      int
}

func (s *sink) Member() *peer.Member          { return s.member }
func (s *sink) Deliver(*edge.Frame)           { s.n++ }
func (s *sink) Refused(uint64, string, error) {}
func (s *sink) Removed(string, wire.Reason)   {}
func (s *sink) Superseded(uint64)             {}

func audience(tb testing.TB, n int) (*Hub, []*sink) {
	h := New(Config{Self: "a1", Region: "a", Roster: lone{}, Links: lone{}, Members: lone{}, Messages: lone{}, Activity: lone{}})
	var sinks []*sink
	for i := range n {
		s := &sink{member: &peer.Member{User: fmt.Sprintf("u%04d", i), Device: &wire.Device{Device: "d", Epoch: 1}}}
		h.Join(s, edge.Join{Room: testRoom})
		sinks = append(sinks, s)
	}
	require.Positive(tb, sinks[n-1].n)
	return h, sinks
}

// BenchmarkFanOut is one message to 1,000 clients of this node, which owns the
// room: numbered, encoded, kept, delivered.
func BenchmarkFanOut(b *testing.B) {
	h, _ := audience(b, 1000)
	m := &wire.Message{Number: 1, Id: "8c0e3e3e", Sender: "u1", Body: "hello there"}
	b.ReportAllocs()
	for b.Loop() {
		h.Publish(testRoom, m)
	}
}

// BenchmarkReport is one fix on its way into the room's next merged frame.
func BenchmarkReport(b *testing.B) {
	h, sinks := audience(b, 1000)
	n, rooms := uint64(0), []string{testRoom}
	here, at := &wire.Point{Lat: 48, Lng: 11}, timestamppb.Now()
	b.ReportAllocs()
	for b.Loop() {
		n++
		_ = h.Report(sinks[n%1000], &wire.Fix{Point: here, N: n, Captured: at}, rooms)
	}
}

// What one message costs does not depend on how many get it.
func TestFanOutAllocations(t *testing.T) {
	m := &wire.Message{Number: 1, Id: "8c0e3e3e", Sender: "u1", Body: "hello there"}
	cost := func(n int) float64 {
		h, _ := audience(t, n)
		for range 300 { // fill the ring
			h.Publish(testRoom, m)
		}
		return testing.AllocsPerRun(200, func() { h.Publish(testRoom, m) })
	}
	one, thousand := cost(1), cost(1000)
	require.InDelta(t, one, thousand, 1)
	require.LessOrEqual(t, thousand, 14.0)
}
