package meshtest

import (
	"cmp"
	"context"
	"encoding/binary"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/internal/node"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/media/sfu/sfutest"
)

// word is a frame that somebody got of somebody: it passed its sender's SFU in between.
type word struct{ sent, came time.Time }

// heardWords are the frames that came, by their sender's number.
type heardWords struct {
	mu   sync.Mutex // guards the following
	of   map[string]map[uint32]word
	turn map[string]int // times that somebody had the floor and said something
}

func (w *heardWords) hear(mic string, b []byte) {
	if len(b) < 13 {
		return
	}
	n, sent, now := binary.BigEndian.Uint32(b[1:]), time.Unix(0, int64(binary.BigEndian.Uint64(b[5:]))), time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.of[mic] == nil {
		w.of[mic] = map[uint32]word{}
	}
	if _, ok := w.of[mic][n]; !ok { // the first one to hear it
		w.of[mic][n] = word{sent, now}
	}
}

func (w *heardWords) turns(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.turn[name]
}

// aTurn is how long somebody has the floor, at least; a run of words whose way and
// distance are shorter than half of it was said under one lease.
const aTurn = 400 * time.Millisecond

// atOnce is how many words passed while somebody else's did, beyond all doubt: they
// were sent after a word of another one's run had come, and came before a later one of
// it was sent. How late a busy machine hears them changes nothing.
func (w *heardWords) atOnce() (n, all int) {
	type run struct {
		mic      string
		from, to time.Time
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var runs []run
	for mic, of := range w.of {
		var last word
		for _, number := range slices.Sorted(maps.Keys(of)) {
			x := of[number]
			if x.came.Sub(x.sent) > aTurn/2 {
				continue
			}
			if i := len(runs) - 1; i >= 0 && runs[i].mic == mic && x.sent.Sub(last.sent) < aTurn/4 && x.came.Sub(last.came) < aTurn/4 {
				runs[i].to = x.sent
			} else {
				runs = append(runs, run{mic, x.came, x.sent})
			}
			last = x
		}
	}
	slices.SortFunc(runs, func(a, b run) int { return cmp.Compare(a.from.UnixNano(), b.from.UnixNano()) })
	for mic, of := range w.of {
		for _, x := range of {
			all++
			if slices.ContainsFunc(runs, func(r run) bool { return r.mic != mic && x.sent.After(r.from) && x.came.Before(r.to) }) {
				n++
			}
		}
	}
	return n, all
}

// talker is somebody who says something whenever the floor is theirs.
type talker struct {
	*User
	call *client.Call
}

// speaks joins a call with a microphone that is on all the time. Its SFU stays the same.
func (u *User) speaks(ctx context.Context, room *client.Room, id string, w *heardWords) *talker {
	t := u.mesh.t
	call, joined, err := room.JoinCall(t.Context(), id, &wire.CallJoin{Fresh: true})
	require.NoError(t, err)
	asks := make(chan *wire.CallDescription, 100)
	conn, err := sfutest.New(sfutest.Options{}, func(d *wire.CallDescription) error {
		d.Place = joined.Place
		asks <- d
		return nil
	})
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	conn.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			p, _, err := track.ReadRTP()
			if err != nil {
				return
			}
			w.hear(track.StreamID(), p.Payload)
		}
	})
	go func() {
		for {
			select {
			case d := <-asks:
				untilHeard(ctx, call, d, func() bool { return true })
			case <-ctx.Done():
				return
			}
		}
	}()
	go func() {
		for e := range call.Events(ctx) {
			if e, ok := e.(*client.CallEvent); ok && e.GetDescribe() != nil {
				_ = conn.Receive(e.GetDescribe())
			}
		}
	}()
	mic, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48_000, Channels: 2}, "mic", "me")
	require.NoError(t, err)
	require.NoError(t, conn.Publish(sfutest.Track{Source: wire.CallSource_MIC, Layers: []*webrtc.TrackLocalStaticRTP{mic}}))
	go func() {
		tick := time.NewTicker(voice)
		defer tick.Stop()
		for n := uint32(1); ; n++ {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32([]byte{0xfc}, n), uint64(time.Now().UnixNano()))
			_ = mic.WriteRTP(&rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: uint16(n), Timestamp: n * 960, SSRC: 1}, Payload: b})
		}
	}()
	return &talker{u, call}
}

// talk has the floor for a moment, again and again.
func (x *talker) talk(ctx context.Context, w *heardWords, mic func() string) {
	floor := func(hold bool) bool {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		f, err := x.call.Floor(ctx, &wire.CallFloorAsk{Hold: hold})
		return err == nil && f.GetMine()
	}
	heard := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.of[mic()])
	}
	for ctx.Err() == nil {
		if !floor(true) {
			pauseFor(ctx, 100*time.Millisecond)
			continue
		}
		before := heard()
		pauseFor(ctx, aTurn)
		if heard() > before {
			w.mu.Lock()
			w.turn[x.Name]++
			w.mu.Unlock()
		}
		floor(false)
	}
}

func pauseFor(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// Push to talk in two regions, with real media: nobody's words pass while another one's
// do, and everybody who can reach the call's home has a turn: through the loss of its
// leader, a cut, and its end.
func TestTheFloorIsOnePersons(t *testing.T) {
	m := StartWith(t, node.MeshConfig{Regions: 2, Nodes: 3, Calls: true})
	ann := m.Guest(0, "Ann")
	users := []*User{ann, m.Guest(0, "Bo"), m.Guest(1, "Cy"), m.Guest(1, "Dee")}
	group := m.Group(ann, users[1:]...)
	started, err := ann.StartCall(t.Context(), client.CallDraft{GroupID: group, Type: "audio", PushToTalk: true})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	w := &heardWords{of: map[string]map[uint32]word{}, turn: map[string]int{}}
	var talking sync.WaitGroup
	defer talking.Wait()
	defer cancel()
	for i, u := range users {
		u.Connect(i/2, 0, client.Auto)
		x := u.speaks(ctx, u.Join(group), started.ID, w)
		if u.Name == "Dee" { // who only listens
			continue
		}
		device := u.Session.Device()
		mic := func() string { return media.TrackID(started.ID, u.ID, device, wire.CallSource_MIC) }
		talking.Go(func() { x.talk(ctx, w, mic) })
	}
	turns := func(what string, names ...string) {
		t.Helper()
		from := map[string]int{}
		for _, name := range names {
			from[name] = w.turns(name)
		}
		began := time.Now()
		for _, name := range names {
			m.Eventually(what+": "+name+" talks", func() bool { return w.turns(name) > from[name] })
		}
		t.Logf("%s all had a turn within %v", what, time.Since(began).Round(time.Millisecond))
	}
	turns("at first", "Ann", "Bo", "Cy")

	// The leader of the home region is lost: one that is neither the SFU nor anybody's node.
	leader := func() int {
		id := m.Nodes[m.sfuOf(0, started.ID)].Cluster().Leader()
		return slices.IndexFunc(m.Nodes, func(n *node.Node) bool { return n.ID() == id })
	}
	m.Eventually("the leader is a node of its own", func() bool {
		l := leader()
		if l > 0 && l != m.sfuOf(0, started.ID) {
			return true
		}
		if l >= 0 {
			_ = m.Nodes[l].Cluster().TransferLeadership(ctx)
		}
		return false
	})
	m.Kill(leader())
	turns("after the leader", "Ann", "Bo", "Cy")

	m.Net.CutBoth(m.Region(0), m.Region(1))
	turns("in a cut", "Ann", "Bo")
	cy := w.turns("Cy") // it may have had one that began before
	turns("in a cut", "Ann", "Bo")
	require.Equal(t, cy, w.turns("Cy"), "its lease can't be renewed")
	m.Net.Heal()
	turns("after it", "Ann", "Bo", "Cy")
	cancel()
	talking.Wait()
	n, all := w.atOnce()
	t.Logf("%d words in %v turns", all, w.turn)
	require.Zero(t, n, "of %d words passed while another one's did", all)
}
