package scenario

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/bench/media"
	"github.com/mustermesh/muster/bench/report"
	"github.com/mustermesh/muster/media/sfu"
)

// SFU is the sfu scenario: one room, publishers and receivers of pion in this process,
// the media server in one of its own.
type SFU struct {
	Targets  []SFUTarget // each gets every case, in turn
	Rounds   int
	Duration time.Duration
	Only     string // of the cases; "": all
	Progress func(format string, a ...any)
}

// SFUTarget is a server that carries calls.
type SFUTarget struct {
	Name string
	// Open starts a call; participants is how many are going to join.
	Open func(ctx context.Context, participants int) (media.Call, error)
	Most float64 // bits a second that one may publish; 0: enough
}

// BareTarget is the media server alone, in a process of this program; env is beside this
// one's own.
func BareTarget(binary string, env []string) SFUTarget {
	return SFUTarget{Name: report.SFUMuster, Open: func(ctx context.Context, _ int) (media.Call, error) { return media.OpenBare(ctx, binary, env) }}
}

// DirectTarget is the same participants without a server.
func DirectTarget() SFUTarget {
	return SFUTarget{Name: report.SFUDirect, Open: func(context.Context, int) (media.Call, error) { return media.OpenDirect(), nil }}
}

// LiveKitTarget is a LiveKit that somebody started.
func LiveKitTarget(l media.LiveKit) SFUTarget {
	return SFUTarget{Name: report.SFULiveKit, Open: func(context.Context, int) (media.Call, error) { return l.Open(), nil }}
}

// sfuCase is a workload. The first three are those of docs: their figures stand beside
// LiveKit's.
type sfuCase struct {
	name                  string
	publishers, receivers int
	load                  media.Load
	goal                  float64 // forwarded packets per CPU second, where no other server is measured beside; 0: none
	delay                 float64 // added, ms, p99; 0: none
}

// tracks that a publisher has.
func (c sfuCase) tracks() int {
	if c.load.Frames > 0 {
		return 2
	}
	return 1
}

// each is how many get a packet.
func (c sfuCase) each() int {
	if c.receivers == 0 {
		return c.publishers - 1
	}
	return c.receivers
}

// gets is how many tracks a receiver gets.
func (c sfuCase) gets() int {
	if c.receivers == 0 {
		return c.tracks() * (c.publishers - 1)
	}
	return c.tracks() * c.publishers
}

var (
	sfuVoice = media.Load{Audio: 50, AudioSize: 80}
	sfuVideo = media.Load{Audio: 50, AudioSize: 80, Frames: 30, PerFrame: 10, VideoSize: 1_100}
	sfuLarge = media.Load{Audio: 50, AudioSize: 80, Frames: 30, PerFrame: 100, VideoSize: 1_100}
	sfuCases = []sfuCase{
		{"1 to 10", 1, 10, sfuVideo, 107_000, 2},
		{"1 to 50", 1, 50, sfuVideo, 149_000, 0},
		{"1 to 10, 3,050/s in", 1, 10, sfuLarge, 258_000, 0},
		{"10 talk to each other", 10, 0, sfuVoice, 0, 0},
	}
)

// Run measures every case as often as there are rounds.
func (s SFU) Run(ctx context.Context) (*report.SFU, error) {
	if s.Only != "" && !slices.ContainsFunc(sfuCases, func(c sfuCase) bool { return c.name == s.Only }) {
		var names []string
		for _, c := range sfuCases {
			names = append(names, strconv.Quote(c.name))
		}
		return nil, fmt.Errorf("sfu: there is no case %q: say one of %s", s.Only, strings.Join(names, ", "))
	}
	r := &report.SFU{Head: report.NewHead("sfu"), Rounds: s.Rounds, Seconds: s.Duration.Seconds()}
	for _, c := range sfuCases {
		if s.Only != "" && s.Only != c.name {
			continue
		}
		out := report.SFUCase{Case: c.name, Goal: c.goal, GoalDelay: c.delay}
		for round := range s.Rounds {
			for i := range s.Targets { // who begins takes turns
				t := s.Targets[(i+round)%len(s.Targets)]
				if t.Most > 0 && c.load.Bits() > t.Most {
					continue
				}
				run, err := s.one(ctx, c, t)
				if err != nil {
					return nil, fmt.Errorf("sfu: %s: %s: %w", t.Name, c.name, err)
				}
				s.Progress("%s, round %d of %d: %s: %.0f a CPU second, p99 %.1f ms", c.name, round+1, s.Rounds, t.Name, run.PerCPUSecond, run.Delay.P99)
				out.Add(t.Name, run)
			}
		}
		out.Compare()
		r.Cases = append(r.Cases, out)
	}
	return r, nil
}

// sfuUsage is what had been used and done at some time.
type sfuUsage struct {
	at          time.Time
	server, own time.Duration // CPU
	stats       sfu.Stats     // of servers that say so
}

func usageOf(ctx context.Context, call media.Call) (u sfuUsage, err error) {
	if says, ok := call.(interface {
		Stats(ctx context.Context) (sfu.Stats, error)
	}); ok {
		if u.stats, err = says.Stats(ctx); err != nil {
			return u, err
		}
	}
	if pid := call.PID(); pid != 0 {
		if u.server, err = loadgen.CPU(pid); err != nil {
			return u, err
		}
	}
	u.own, err = loadgen.CPU(os.Getpid())
	u.at = time.Now()
	return u, err
}

func (s SFU) one(ctx context.Context, c sfuCase, t SFUTarget) (run report.SFURun, err error) {
	call, err := t.Open(ctx, c.publishers+c.receivers)
	if err != nil {
		return run, err
	}
	defer call.Close()
	ctx, cancel := context.WithCancel(ctx)
	meter := &media.Meter{Delay: loadgen.NewLatencies()}
	var sent atomic.Int64
	var clients []*media.Client
	defer func() {
		cancel()
		for _, c := range clients {
			c.Close()
		}
	}()
	join := func(kind string, i int) (*media.Client, error) {
		cl, err := media.Join(ctx, call, fmt.Sprintf("%s%d", kind, i), meter, &sent)
		if err == nil {
			clients = append(clients, cl)
		}
		return cl, err
	}
	for i := range c.publishers {
		cl, err := join("sender", i)
		if err != nil {
			return run, err
		}
		if err := cl.Publish(ctx, c.load); err != nil {
			return run, err
		}
	}
	for i := range c.receivers {
		if _, err := join("receiver", i); err != nil {
			return run, err
		}
	}
	if err := flowing(ctx, clients, c); err != nil {
		return run, err
	}
	// The estimates of bandwidth settle, and the profile of what is the same for all.
	if err := pause(ctx, 2*time.Second); err != nil {
		return run, err
	}
	before, err := usageOf(ctx, call)
	if err != nil {
		return run, err
	}
	meter.On.Store(true)
	if err := pause(ctx, s.Duration); err != nil {
		return run, err
	}
	meter.On.Store(false)
	after, err := usageOf(ctx, call)
	if err != nil {
		return run, err
	}
	for _, c := range clients {
		if err := c.Err(); err != nil {
			return run, err
		}
	}
	took, got := after.at.Sub(before.at).Seconds(), float64(meter.Received.Load())
	run = report.SFURun{
		In: float64(sent.Load()) / took, Forwarded: got / took, ClientCores: (after.own - before.own).Seconds() / took,
		Delivered: got / (float64(sent.Load()) * float64(c.each())),
		Delay:     report.QuantilesOf(meter.Delay.At, meter.Delay.Max()),
		Reads:     float64(after.stats.Reads-before.stats.Reads) / took,
		Writes:    float64(after.stats.Writes-before.stats.Writes) / took,
		Repeated:  float64(after.stats.Repeated-before.stats.Repeated) / took,
	}
	if pid := call.PID(); pid != 0 {
		used := (after.server - before.server).Seconds()
		run.Cores, run.PerCPUSecond = used/took, got/used
		if run.MemoryBytes, err = loadgen.RSS(pid); err != nil {
			return run, err
		}
	}
	return run, nil
}

// flowing waits until everybody gets everything.
func flowing(ctx context.Context, clients []*media.Client, c sfuCase) error {
	deadline := time.Now().Add(60 * time.Second)
	for {
		missing := 0
		for i, cl := range clients {
			if err := cl.Err(); err != nil {
				return err
			}
			if (c.receivers == 0 || i >= c.publishers) && cl.Flowing() < c.gets() {
				missing++
			}
		}
		if missing == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d participants don't get everything within a minute", missing)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}
