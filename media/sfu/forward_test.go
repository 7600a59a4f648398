package sfu_test

import (
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/media/sfu"
	"github.com/mustermesh/muster/media/sfu/sfutest"
)

// full is whether the counts and times of `make prove-sfu` apply.
var full = os.Getenv("MUSTER_PROVE_SFU") != ""

// Whatever is switched and paused, the receiver's numbers have no hole, its picture ids
// neither, and it is told which layer it gets.
func TestLayersFollowWhatIsShown(t *testing.T) {
	s := serve(t, sfu.Options{})
	ann, ben := join(t, s, "ann", sfutest.Options{}), join(t, s, "ben", sfutest.Options{})
	snd, track := newCamera(t, 60_000, 120_000, 240_000)
	snd.keys = 200 * time.Millisecond
	snd.client = ann.client
	require.NoError(t, ann.client.Publish(track))
	src := ann.source(wire.CallSource_CAMERA)
	require.Equal(t, 3, src.Track().Layers)
	st := ben.stream(src.Track().ID)
	show := func(height uint32) {
		ben.peer.Subscribe([]media.Subscription{{Source: src, Flow: true, Height: height}})
	}
	show(180)
	snd.start(t)
	for _, step := range []struct {
		height uint32
		layer  int
	}{{180, 0}, {720, 2}, {360, 1}, {720, 2}, {180, 0}} {
		show(step.height)
		require.Eventually(t, func() bool { return st.layer() == step.layer }, soon, time.Millisecond, "layer %d, not %d", step.layer, st.layer())
		n := st.count()
		require.Eventually(t, func() bool { return st.count() > n+20 }, soon, time.Millisecond)
	}
	show(0)
	time.Sleep(300 * time.Millisecond) // what is on its way
	n := st.count()
	ben.peer.Flow(src.Track().ID, false)
	time.Sleep(200 * time.Millisecond)
	require.Equal(t, n, st.count(), "nothing flows that is not shown")
	ben.peer.Flow(src.Track().ID, true)
	show(720)
	require.Eventually(t, func() bool { return st.count() > n+60 && st.layer() == 2 }, soon, time.Millisecond)
	requireGapless(t, st)
	require.Zero(t, s.Stats().Refused)
}

// A muted microphone is not forwarded, whatever its client sends; nor after the end of a
// turn to talk. What comes after goes on without a hole.
func TestGate(t *testing.T) {
	s := serve(t, sfu.Options{})
	ann, ben := join(t, s, "ann", sfutest.Options{}), join(t, s, "ben", sfutest.Options{})
	snd, track := mic(t)
	require.NoError(t, ann.client.Publish(track))
	src := ann.source(wire.CallSource_MIC)
	var tapped atomic.Int64
	remove := src.Tap(media.AllLayers, func(media.Packet) { tapped.Add(1) })
	ben.peer.Subscribe([]media.Subscription{{Source: src, Flow: true}})
	snd.start(t, 5*time.Millisecond)
	st := ben.stream(src.Track().ID)
	require.Eventually(t, func() bool { return st.count() > 20 }, soon, time.Millisecond)
	src.Gate(time.Now())
	time.Sleep(100 * time.Millisecond)
	n, m := st.count(), tapped.Load()
	sent := snd.sent.Load()
	require.Eventually(t, func() bool { return snd.sent.Load() > sent+20 }, soon, time.Millisecond)
	require.Equal(t, n, st.count())
	require.Equal(t, m, tapped.Load())
	src.Gate(time.Time{})
	require.Eventually(t, func() bool { return st.count() > n+20 }, soon, time.Millisecond)
	remove()
	requireGapless(t, st)
}

// A track goes on from another SFU, under the same name: the receiver notices nothing.
func TestSourceIsReplaced(t *testing.T) {
	s, away := serve(t, sfu.Options{}), serve(t, sfu.Options{})
	ann, ben := join(t, s, "ann", sfutest.Options{}), join(t, s, "ben", sfutest.Options{})
	elsewhere := join(t, away, "ann", sfutest.Options{})
	snd, track := mic(t)
	require.NoError(t, ann.client.Publish(track))
	src := ann.source(wire.CallSource_MIC)
	ben.peer.Subscribe([]media.Subscription{{Source: src, Flow: true}})
	snd.start(t, 5*time.Millisecond)
	st := ben.stream(src.Track().ID)
	require.Eventually(t, func() bool { return st.count() > 50 }, soon, time.Millisecond)

	snd2, track2 := mic(t)
	require.NoError(t, elsewhere.client.Publish(track2))
	far := elsewhere.source(wire.CallSource_MIC)
	require.Equal(t, src.Track().ID, far.Track().ID)
	ev := &wanted{}
	r := s.Remote(far.Track(), ev)
	defer far.Tap(media.AllLayers, r.Write)()
	ben.peer.Subscribe([]media.Subscription{{Source: r, Flow: true}})
	require.Nil(t, ben.peer.Offer(), "nothing is negotiated for it")
	require.EqualValues(t, 1, ev.layers.Load())
	snd2.start(t, 5*time.Millisecond)
	n := st.count()
	require.Eventually(t, func() bool { return st.count() > n+100 }, soon, time.Millisecond)
	requireGapless(t, st)
	ben.peer.Subscribe(nil)
	require.Zero(t, ev.layers.Load())
	r.Close()
}

type wanted struct{ layers, keys atomic.Int64 }

func (w *wanted) Wanted(l media.Layers) { w.layers.Store(int64(l)) }
func (w *wanted) KeyFrame(int)          { w.keys.Add(1) }

// ICE starts anew on both connections, and what flows goes on.
func TestRestart(t *testing.T) {
	s := serve(t, sfu.Options{})
	ann, ben := join(t, s, "ann", sfutest.Options{}), join(t, s, "ben", sfutest.Options{})
	snd, track := mic(t)
	require.NoError(t, ann.client.Publish(track))
	src := ann.source(wire.CallSource_MIC)
	ben.peer.Subscribe([]media.Subscription{{Source: src, Flow: true}})
	snd.start(t, 5*time.Millisecond)
	st := ben.stream(src.Track().ID)
	require.Eventually(t, func() bool { return st.count() > 20 }, soon, time.Millisecond)
	pwd := ann.client.Up.CurrentRemoteDescription().SDP
	require.NoError(t, ann.client.Restart())
	require.NoError(t, ben.peer.Describe(&wire.CallDescription{Connection: wire.CallDescription_DOWN, Restart: true}))
	require.Eventually(t, func() bool {
		return ann.client.Up.CurrentRemoteDescription().SDP != pwd && ben.peer.Offer() == nil
	}, soon, time.Millisecond)
	n := st.count()
	require.Eventually(t, func() bool { return st.count() > n+200 }, soon, time.Millisecond)
}

// Tracks come and go; sections are used again, and nobody is told more than once.
func TestTracksComeAndGo(t *testing.T) {
	s := serve(t, sfu.Options{})
	ben := join(t, s, "ben", sfutest.Options{})
	var people []*person
	for _, name := range []string{"ann", "cid", "dot"} {
		p := join(t, s, name, sfutest.Options{})
		snd, track := mic(t)
		require.NoError(t, p.client.Publish(track))
		snd.start(t, 10*time.Millisecond)
		people = append(people, p)
	}
	for i, p := range append(people, people...) {
		src := p.source(wire.CallSource_MIC)
		ben.peer.Subscribe([]media.Subscription{{Source: src, Flow: true}})
		st := ben.stream(src.Track().ID)
		n := st.count()
		require.Eventually(t, func() bool { return st.count() > n+10 }, soon, time.Millisecond, "round %d", i)
	}
	require.LessOrEqual(t, len(ben.client.Down.GetTransceivers()), 2, "sections are used again")
}

// At 5 % loss in each direction, on both links, less than 1 % of the audio is missing in
// the end; at 20 % the call stays up, and is whole again afterwards.
func TestLossIsRepaired(t *testing.T) {
	s := serve(t, sfu.Options{})
	la, lb := newLink(1), newLink(2)
	ann, ben := join(t, s, "ann", la.options(t)), join(t, s, "ben", lb.options(t))
	snd, track := mic(t)
	require.NoError(t, ann.client.Publish(track))
	src := ann.source(wire.CallSource_MIC)
	ben.peer.Subscribe([]media.Subscription{{Source: src, Flow: true}})
	snd.start(t, 10*time.Millisecond)
	st := ben.stream(src.Track().ID)
	require.Eventually(t, func() bool { return st.count() > 20 }, soon, time.Millisecond)
	packets := 400
	if full {
		packets = 6_000
	}
	missing := func(loss float64) float64 {
		la.set(loss, 0)
		lb.set(loss, 0)
		n := st.count()
		require.Eventually(t, func() bool { return st.count() > n+packets }, 3*time.Minute, 5*time.Millisecond)
		la.set(0, 0)
		lb.set(0, 0)
		m := st.count()
		require.Eventually(t, func() bool { return st.count() > m+150 }, soon, time.Millisecond)
		st.mu.Lock()
		defer st.mu.Unlock()
		// Of the numbers between the first and the last packet of this part, those that
		// never came.
		from, to := st.packets[n].SequenceNumber, st.packets[m].SequenceNumber
		lost := 0
		for q := from; q != to; q++ {
			if st.seen[q] == 0 {
				lost++
			}
		}
		return float64(lost) / float64(to-from)
	}
	at5 := missing(0.05)
	t.Logf("missing at 5 %% loss: %.4f", at5)
	require.Less(t, at5, 0.01)
	at20 := missing(0.20)
	t.Logf("missing at 20 %% loss: %.4f", at20)
	require.Less(t, at20, 0.15)
	require.Zero(t, missing(0))
	require.Equal(t, webrtc.PeerConnectionStateConnected, ben.client.Down.ConnectionState())
}

// The link of a receiver narrows and widens: the picture becomes smaller and big again,
// is never still for long, and sound goes on.
func TestLayersFollowTheLink(t *testing.T) {
	wide, narrow, scale := 3_000_000.0, 500_000.0, 1
	if !full {
		// A quarter of the packets, for machines that do other things beside.
		wide, narrow, scale = wide/2, narrow/2, 2
	}
	s := serve(t, sfu.Options{})
	l := newLink(7)
	ann, ben := join(t, s, "ann", sfutest.Options{}), join(t, s, "ben", l.options(t))
	snd, track := newCamera(t, 150_000/scale, 500_000/scale, 1_700_000/scale)
	snd.client = ann.client
	voice, vt := mic(t)
	require.NoError(t, ann.client.Publish(vt, track))
	src, vs := ann.source(wire.CallSource_CAMERA), ann.source(wire.CallSource_MIC)
	l.set(0, wide)
	ben.peer.Subscribe([]media.Subscription{{Source: vs, Flow: true}, {Source: src, Flow: true, Height: 720}})
	snd.start(t)
	voice.start(t, 20*time.Millisecond)
	st := ben.stream(src.Track().ID)
	require.Eventually(t, func() bool { return st.layer() == 2 }, soon, time.Millisecond)
	l.set(0, narrow)
	narrowed := time.Now()
	require.Eventually(t, func() bool { return st.layer() < 2 }, soon, time.Millisecond)
	time.Sleep(3 * time.Second)
	require.Less(t, st.layer(), 2, "it does not come back while the link is narrow")
	l.set(0, wide)
	widened := time.Now()
	require.Eventually(t, func() bool { return st.layer() == 2 }, soon, time.Millisecond)
	took := time.Since(widened)
	still := st.longest(narrowed.Add(-time.Second))
	gone := ben.stream(vs.Track().ID).longest(narrowed.Add(-time.Second))
	t.Logf("back up after %s, the picture was still for %s, sound for %s", took, still, gone)
	if full {
		require.Less(t, took, 5*time.Second)
		require.Less(t, still, 500*time.Millisecond)
	}
}

// longest is the longest time between two packets since a time.
func (st *stream) longest(since time.Time) (most time.Duration) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for i := 1; i < len(st.at); i++ {
		if st.at[i].After(since) {
			most = max(most, st.at[i].Sub(st.at[i-1]))
		}
	}
	return most
}

// When all have gone, nothing is left of them.
func TestNothingIsLeft(t *testing.T) {
	people := 12
	if full {
		people = 200
	}
	s := serve(t, sfu.Options{TCP: true})
	round := func(n int) {
		for i := range n {
			ann, ben := join(t, s, "ann", sfutest.Options{TCP: i%4 == 3}), join(t, s, "ben", sfutest.Options{})
			snd, track := mic(t)
			require.NoError(t, ann.client.Publish(track))
			src := ann.source(wire.CallSource_MIC)
			ben.peer.Subscribe([]media.Subscription{{Source: src, Flow: true}})
			snd.start(t, 5*time.Millisecond)
			st := ben.stream(src.Track().ID)
			require.Eventually(t, func() bool { return st.count() > 3 }, soon, time.Millisecond)
			snd.end()
			ann.leave()
			ben.leave()
		}
	}
	round(2)
	var before int
	require.Eventually(t, func() bool { before = runtime.NumGoroutine(); return s.Stats().Peers == 0 }, soon, time.Millisecond)
	round(people / 2)
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+5 }, soon, 10*time.Millisecond)
	st := s.Stats()
	require.Zero(t, st.Peers)
	require.Zero(t, st.Sources)
	require.Zero(t, st.Subscriptions)
	s.Stop()
}

// Descriptions that nobody can answer are refused with a reason, and change nothing.
func TestBadDescriptions(t *testing.T) {
	s := serve(t, sfu.Options{})
	ann := join(t, s, "ann", sfutest.Options{})
	n := uint64(0)
	for name, d := range map[string]*wire.CallDescription{
		"nothing":       {Connection: wire.CallDescription_UP, N: 1, Offer: true},
		"no connection": {N: 1, Offer: true, Sdp: "v=0\r\n"},
		"an answer":     {Connection: wire.CallDescription_UP, N: 2},
		"an offer down": {Connection: wire.CallDescription_DOWN, N: 1, Offer: true},
		"much":          {Connection: wire.CallDescription_UP, N: 3, Offer: true, Sdp: string(make([]byte, 70_000))},
	} {
		n++
		d.N = n
		require.ErrorIs(t, ann.peer.Describe(d), media.ErrBadDescription, name)
	}
	// The answer refuses what is too much, which pion's client takes for an error of its
	// own: this one never hears it.
	bob := &person{t: t, name: "bob", published: map[string]media.Source{}, connected: map[wire.CallDescription_Connection]bool{}}
	peer, err := s.Join(media.PeerConfig{Name: bob.name, Events: deaf{bob}, TrackID: func(src wire.CallSource) string { return media.TrackID("call", bob.name, "d", src) }})
	require.NoError(t, err)
	defer peer.Close()
	client, err := sfutest.New(sfutest.Options{}, peer.Describe)
	require.NoError(t, err)
	defer client.Close()
	for range 10 {
		_, err := client.Up.AddTransceiverFromKind(webrtc.RTPCodecTypeVideo)
		require.NoError(t, err)
	}
	_, track := mic(t)
	require.NoError(t, client.Publish(track))
	require.Eventually(t, func() bool { return s.Stats().Sources == 1 }, soon, time.Millisecond, "one camera and no more counts; then no room is left")
}

// deaf is somebody who hears no descriptions.
type deaf struct{ *person }

func (deaf) Describe(*wire.CallDescription) {}
