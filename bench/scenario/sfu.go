package scenario

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"time"

	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/bench/media"
	"github.com/mustermesh/muster/bench/report"
)

// SFU is the sfu scenario: one room, publishers and receivers of pion in this process,
// the media server in one of its own.
type SFU struct {
	Binary   string // muster
	Rounds   int
	Duration time.Duration
	Only     string // of the cases; "": all
	Progress func(format string, a ...any)
}

// sfuCase is a workload. The first three are those of docs: their figures stand beside
// LiveKit's.
type sfuCase struct {
	name                  string
	publishers, receivers int
	load                  media.Load
	goal                  float64 // forwarded packets per CPU second; 0: none
	delay                 float64 // ms, p99; 0: none
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
	r := &report.SFU{Head: report.NewHead("sfu"), Rounds: s.Rounds, Seconds: s.Duration.Seconds()}
	for _, c := range sfuCases {
		if s.Only != "" && s.Only != c.name {
			continue
		}
		out := report.SFUCase{Case: c.name, Goal: c.goal, GoalDelay: c.delay}
		for round := range s.Rounds {
			s.Progress("%s, round %d of %d", c.name, round+1, s.Rounds)
			run, err := s.one(ctx, c)
			if err != nil {
				return nil, fmt.Errorf("sfu: %s: %w", c.name, err)
			}
			out.Runs = append(out.Runs, run)
		}
		r.Cases = append(r.Cases, out)
	}
	return r, nil
}

func (s SFU) one(ctx context.Context, c sfuCase) (run report.SFURun, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	base, pid, stop, err := s.server(ctx)
	if err != nil {
		return run, err
	}
	defer stop()
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
		cl, err := media.Join(ctx, base, fmt.Sprintf("%s%d", kind, i), meter, &sent)
		if err == nil {
			clients = append(clients, cl)
		}
		return cl, err
	}
	tracks := 1
	if c.load.Frames > 0 {
		tracks = 2
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
	each, gets := c.receivers, tracks*c.publishers // who gets a packet; tracks that a receiver gets
	if c.receivers == 0 {
		each, gets = c.publishers-1, tracks*(c.publishers-1)
	}
	if err := flowing(ctx, clients, c, gets); err != nil {
		return run, err
	}
	// The estimates of bandwidth settle, and the profile of what is the same for all.
	time.Sleep(2 * time.Second)
	before, err := media.Stats(ctx, base)
	if err != nil {
		return run, err
	}
	cpu, err := loadgen.CPU(pid)
	if err != nil {
		return run, err
	}
	own, err := loadgen.CPU(os.Getpid())
	if err != nil {
		return run, err
	}
	began := time.Now()
	meter.On.Store(true)
	select {
	case <-time.After(s.Duration):
	case <-ctx.Done():
		return run, ctx.Err()
	}
	meter.On.Store(false)
	took := time.Since(began).Seconds()
	after, err := media.Stats(ctx, base)
	if err != nil {
		return run, err
	}
	cpuAfter, err := loadgen.CPU(pid)
	if err != nil {
		return run, err
	}
	ownAfter, err := loadgen.CPU(os.Getpid())
	if err != nil {
		return run, err
	}
	memory, err := loadgen.RSS(pid)
	if err != nil {
		return run, err
	}
	for _, c := range clients {
		if err := c.Err(); err != nil {
			return run, err
		}
	}
	forwarded := float64(after.PacketsForwarded - before.PacketsForwarded)
	used := (cpuAfter - cpu).Seconds()
	expected := float64(sent.Load()) * float64(each)
	return report.SFURun{
		In: float64(after.PacketsIn-before.PacketsIn) / took, Forwarded: forwarded / took, PerCPUSecond: forwarded / used,
		Cores: used / took, ClientCores: (ownAfter - own).Seconds() / took, Delivered: float64(meter.Received.Load()) / expected,
		Delay:       report.QuantilesOf(meter.Delay.At, meter.Delay.Max()),
		Reads:       float64(after.Reads-before.Reads) / took,
		Writes:      float64(after.Writes-before.Writes) / took,
		Repeated:    float64(after.Repeated-before.Repeated) / took,
		MemoryBytes: memory,
	}, nil
}

// flowing waits until everybody gets everything.
func flowing(ctx context.Context, clients []*media.Client, c sfuCase, gets int) error {
	deadline := time.Now().Add(60 * time.Second)
	for {
		missing := 0
		for i, cl := range clients {
			if err := cl.Err(); err != nil {
				return err
			}
			if (c.receivers == 0 || i >= c.publishers) && cl.Flowing() < gets {
				missing++
			}
		}
		if missing == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d participants don't get everything within a minute", missing)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// server starts one.
func (s SFU) server(ctx context.Context) (base string, pid int, stop func(), err error) {
	cmd := exec.CommandContext(ctx, s.Binary, "bench", "sfu-server")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", 0, nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", 0, nil, fmt.Errorf("start the media server: %w", err)
	}
	stop = func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	var ready media.Ready
	if err == nil {
		err = json.Unmarshal(line, &ready)
	}
	if err != nil {
		stop()
		return "", 0, nil, fmt.Errorf("the media server did not come up: %w", err)
	}
	return ready.HTTP, cmd.Process.Pid, stop, nil
}
