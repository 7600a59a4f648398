package scenario

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/bench/peers"
	"github.com/mustermesh/muster/bench/report"
)

// TurnCase is one load on a relay.
type TurnCase struct {
	Name string
	Rate int  // packets a second that clients send, of all allocations together
	Echo bool // the peer sends them back, so that twice as many are relayed
}

// TurnCases are the loads that peers were measured under.
func TurnCases() []TurnCase {
	return []TurnCase{
		{Name: "20,000 packets/s, one way", Rate: 20_000},
		{Name: "10,000 packets/s, there and back", Rate: 10_000, Echo: true},
		{Name: "150,000 packets/s, one way", Rate: 150_000},
	}
}

// TurnTarget is a relay under load.
type TurnTarget struct {
	Name   string
	Addr   netip.AddrPort
	PID    int
	Secret string
}

// Turn gives the same loads to several relays in turn.
type Turn struct {
	Cases       []TurnCase
	Targets     []TurnTarget
	Rounds      int
	Allocations int
	Size        int // bytes of payload
	Duration    time.Duration
	Warmup      time.Duration
	Idle        int // allocations whose memory is measured; 0: none
	Progress    func(format string, args ...any)
}

// Run measures. The memory of idle allocations comes first, when nothing has made the
// processes grow.
func (s Turn) Run(ctx context.Context) (*report.Turn, error) {
	if s.Size < 16 {
		return nil, errors.New("bench: a payload has at least 16 bytes")
	}
	r := &report.Turn{
		Head: report.NewHead("turn"), Rounds: s.Rounds, Seconds: s.Duration.Seconds(), Bytes: s.Size, Allocations: s.Allocations,
	}
	for _, t := range s.Targets {
		if s.Idle == 0 {
			break
		}
		m, err := s.idle(ctx, t)
		if err != nil {
			return nil, fmt.Errorf("bench: %s: idle: %w", t.Name, err)
		}
		s.Progress("%s: %.0f bytes for each idle allocation", t.Name, m.PerAllocation)
		r.Idle = append(r.Idle, m)
	}
	for _, c := range s.Cases {
		runs := map[string][]report.TurnRun{}
		for round := range s.Rounds {
			for i := range s.Targets { // who begins takes turns
				t := s.Targets[(i+round)%len(s.Targets)]
				run, err := s.one(ctx, c, t)
				if err != nil {
					return nil, fmt.Errorf("bench: %s: %s: %w", t.Name, c.Name, err)
				}
				s.Progress("%s: %s: %.0f/s, %.0f a CPU second, loss %.3f %%, p99 %.2f ms", c.Name, t.Name, run.Relayed, run.PerCPUSecond, 100*run.Loss, run.Latency.P99)
				runs[t.Name] = append(runs[t.Name], run)
			}
		}
		r.Add(c.Name, runs)
	}
	return r, nil
}

// idle opens allocations and looks at what the process grew by.
func (s Turn) idle(ctx context.Context, t TurnTarget) (m report.TurnIdle, err error) {
	m = report.TurnIdle{Server: t.Name, Allocations: s.Idle}
	before, err := loadgen.RSS(t.PID)
	if err != nil {
		return m, err
	}
	peer, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return m, err
	}
	defer peer.Close()
	crowd, err := peers.Turn(ctx, t.Addr, t.Secret, s.Idle, peer.LocalAddr())
	if err != nil {
		return m, err
	}
	defer crowd.Close()
	if err := pause(ctx, 3*time.Second); err != nil {
		return m, err
	}
	after, err := loadgen.RSS(t.PID)
	m.PerAllocation = float64(after-before) / float64(s.Idle)
	return m, err
}

// The beginning of a payload: when it was sent, in nanoseconds since the run began, and
// whether it counts.
const (
	turnStamp  = 8
	turnCounts = 1
)

// one plays one case on one relay.
func (s Turn) one(ctx context.Context, c TurnCase, t TurnTarget) (run report.TurnRun, err error) {
	// One socket for each allocation at the other end, too: the packets of a socket are
	// handed over one after another.
	sinks := make([]*net.UDPConn, s.Allocations)
	addrs := make([]net.Addr, s.Allocations)
	for i := range sinks {
		if sinks[i], err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
			return run, err
		}
		defer sinks[i].Close()
		_ = sinks[i].SetReadBuffer(4 << 20)
		addrs[i] = sinks[i].LocalAddr()
	}
	crowd, err := peers.Turn(ctx, t.Addr, t.Secret, s.Allocations, addrs...)
	if err != nil {
		return run, err
	}
	defer crowd.Close()

	start := time.Now()
	latencies := loadgen.NewLatencies()
	arrived := make([]turnCount, s.Allocations)
	note := func(i int, b []byte) {
		if len(b) < 16 || b[turnStamp] != turnCounts {
			return
		}
		a := &arrived[i]
		if a.n++; a.n%8 == 0 {
			latencies.Record(time.Since(start) - time.Duration(binary.BigEndian.Uint64(b)))
		}
	}
	var readers sync.WaitGroup
	for i, sink := range sinks {
		readers.Go(func() {
			peers.Receive(sink, 64, func(b []byte, from netip.AddrPort) {
				if c.Echo {
					_, _ = sink.WriteToUDPAddrPort(b, from)
					return
				}
				note(i, b)
			})
		})
		if c.Echo {
			crowd.Receive(i, func(b []byte) { note(i, b) })
		}
	}
	stop := sync.OnceFunc(func() {
		for _, sink := range sinks {
			_ = sink.Close()
		}
		crowd.Close()
		readers.Wait()
	})
	defer stop()

	payload := make([]byte, s.Size)
	copy(payload[16:], strings.Repeat("x", s.Size))
	send := func(d time.Duration, counts byte) (sent int, err error) {
		payload[turnStamp] = counts
		n := int(float64(c.Rate) * d.Seconds())
		// In bursts of a millisecond, as media leave their encoders.
		burst := max(1, c.Rate/1000)
		err = loadgen.Open(ctx, time.Now(), time.Second*time.Duration(burst)/time.Duration(c.Rate), n/burst, func(int, time.Time) {
			for range burst {
				binary.BigEndian.PutUint64(payload, uint64(time.Since(start)))
				if crowd.Send(sent%s.Allocations, payload) == nil {
					sent++
				}
			}
		})
		return sent, err
	}
	if _, err := send(s.Warmup, 0); err != nil {
		return run, err
	}
	before, err := loadgen.CPU(t.PID)
	if err != nil {
		return run, err
	}
	began := time.Now()
	sent, err := send(s.Duration, turnCounts)
	if err != nil {
		return run, err
	}
	took := time.Since(began).Seconds()
	if err := pause(ctx, 500*time.Millisecond); err != nil { // what is under way arrives
		return run, err
	}
	after, err := loadgen.CPU(t.PID)
	if err != nil {
		return run, err
	}
	stop()
	got := 0
	for i := range arrived {
		got += arrived[i].n
	}
	times := 1.0
	if c.Echo {
		times = 2
	}
	cpu := (after - before).Seconds()
	return report.TurnRun{
		Sent: float64(sent) / took, Relayed: times * float64(got) / took, Cores: cpu / took, PerCPUSecond: times * float64(got) / cpu,
		Loss: max(0, 1-float64(got)/float64(sent)), Latency: report.QuantilesOf(latencies.At, latencies.Max()),
	}, nil
}

// turnCount is what arrived at one socket, with a cache line of its own.
type turnCount struct {
	n int
	_ [56]byte
}
