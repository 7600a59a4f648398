package bwe

import (
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/stretchr/testify/require"

	"github.com/pion/interceptor/pkg/twcc"
)

// path is a link of a rate with a queue and a delay, from the sender's side: what is sent
// arrives, or does not, and is reported every 100 ms.
type path struct {
	e     *Estimator
	rec   *twcc.Recorder
	rate  float64
	queue time.Duration
	free  time.Duration
	seq   uint16
	now   time.Duration
	fed   time.Duration
	every int // each n-th packet is lost; 0: none
}

// run sends at the rate that the estimate gives, but at most at most, for a while.
func (p *path) run(t testing.TB, d time.Duration, most float64, probes bool) {
	const size = 1_100
	for end := p.now + d; p.now < end; {
		r := min(float64(p.e.Rate())*0.95, most)
		if probes && !p.e.Probing(p.now) && p.now%time.Second < 20*time.Millisecond {
			p.e.BeginProbe()
			for range 30 {
				p.send(size, min(2*float64(p.e.Rate()), 20_000_000))
			}
			p.e.EndProbe(p.now)
		}
		p.send(size, r)
		if p.now-p.fed >= 100*time.Millisecond {
			p.fed = p.now
			for _, f := range p.rec.BuildFeedbackPacket() {
				b, err := f.Marshal()
				require.NoError(t, err)
				var cc rtcp.TransportLayerCC
				require.NoError(t, cc.Unmarshal(b))
				p.e.Feedback(&cc, p.now+20*time.Millisecond)
			}
		}
	}
}

func (p *path) send(size int, rate float64) {
	p.e.Sent(p.seq, size, p.now)
	p.free = max(p.free, p.now)
	if p.free-p.now <= p.queue && (p.every == 0 || int(p.seq)%p.every != 0) {
		p.free += time.Duration(float64(size*8) / p.rate * float64(time.Second))
		p.rec.Record(1, p.seq, int64((p.free+10*time.Millisecond)/time.Microsecond))
	}
	p.seq++
	p.now += time.Duration(float64(size*8) / rate * float64(time.Second))
}

func newPath(rate float64) *path {
	return &path{e: New(), rec: twcc.NewRecorder(1), rate: rate, queue: 300 * time.Millisecond, seq: 65_000, now: time.Second}
}

func TestFollowsTheLink(t *testing.T) {
	p := newPath(3_000_000)
	p.run(t, 15*time.Second, Most, true)
	require.InDelta(t, 3_000_000, p.e.Rate(), 1_200_000)
	p.rate = 500_000
	p.run(t, 8*time.Second, Most, false)
	require.Less(t, p.e.Rate(), 700_000)
	require.Greater(t, p.e.Rate(), 250_000)
	p.rate = 3_000_000
	p.run(t, 8*time.Second, Most, true)
	require.Greater(t, p.e.Rate(), 1_700_000)
	require.True(t, p.e.Limited())
}

// Little is sent: nothing is known about more, and a little loss is no reason to send
// less.
func TestIsNotFooledByItself(t *testing.T) {
	p := newPath(100_000_000)
	p.run(t, 20*time.Second, 200_000, false)
	require.Less(t, p.e.Rate(), 1_100_000)
	p = newPath(5_000_000)
	p.every = 20
	p.run(t, 20*time.Second, 600_000, false)
	require.Greater(t, p.e.Rate(), 600_000)
}

// Whatever a receiver reports, the estimate stays within its limits.
func FuzzFeedback(f *testing.F) {
	p := newPath(1_000_000)
	p.run(f, 300*time.Millisecond, 500_000, false)
	p.send(100, 100_000)
	for _, r := range p.rec.BuildFeedbackPacket() {
		b, err := r.Marshal()
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var cc rtcp.TransportLayerCC
		if cc.Unmarshal(b) != nil {
			return
		}
		e := New()
		for i := range 2_000 {
			e.Sent(uint16(i)+cc.BaseSequenceNumber, 1_000, time.Duration(i)*time.Millisecond)
		}
		for i := range 3 {
			e.Feedback(&cc, time.Duration(2+i)*time.Second)
		}
		require.GreaterOrEqual(t, e.Rate(), Least)
		require.LessOrEqual(t, e.Rate(), Most)
	})
}
