// Package names measures the name server of the edge beside others: how many
// queries it answers per second of its process's CPU, in turns, on one machine,
// with the same queries.
//
// The queries are those of resolvers: half of them with a client subnet, for
// addresses, HTTPS records, and names that there are not. NSD and gdnsd, the
// peers, serve a zone with the same names. NSD answers everybody alike; gdnsd
// chooses by client subnet from a handful of networks. So what the peers do is
// less, and what they reach is a bar and not a tie.
package names

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mustermesh/muster/bench/loadgen"
	"github.com/mustermesh/muster/bench/report"
)

// Scenario says what is measured.
type Scenario struct {
	Binary   string // muster, for a server in a process of its own
	Rounds   int
	Duration time.Duration // of each measurement
	Rate     int           // queries a second where the rate is fixed
	Sockets  int           // of the load
	Window   int           // queries under way per socket where it is not
	Progress func(format string, args ...any)
}

// Result is what was measured.
type Result struct {
	report.Head
	Load     string   `json:"load"`
	LoadAvg  string   `json:"machine_load_average"` // before, of the whole machine
	Seconds  float64  `json:"seconds_each"`
	Servers  []Server `json:"servers"`
	Absent   []string `json:"not_installed,omitempty"`
	Comments string   `json:"comments"`
}

// Server is one name server.
type Server struct {
	Name      string `json:"name"`
	Version   string `json:"version"`
	Fixed     []Run  `json:"fixed_rate"`
	Saturated []Run  `json:"saturated"`
	// Medians of the rounds: answers per second of the server's CPU.
	FixedPerCPU     float64 `json:"fixed_rate_answers_per_cpu_second"`
	SaturatedPerCPU float64 `json:"saturated_answers_per_cpu_second"`
	SaturatedPerSec float64 `json:"saturated_answers_per_second"`
}

// Run is one measurement.
type Run struct {
	Sent      int              `json:"sent"`
	Answers   int              `json:"answers"`
	PerSecond float64          `json:"answers_per_second"`
	CPU       float64          `json:"server_cpu_seconds"`
	PerCPU    float64          `json:"answers_per_cpu_second"`
	Latency   report.Quantiles `json:"latency_ms"`
}

// Print writes it for people.
func (r *Result) Print(w io.Writer) error {
	for _, s := range r.Servers {
		p50, p99 := median(s.Fixed, func(r Run) float64 { return r.Latency.P50 }), median(s.Fixed, func(r Run) float64 { return r.Latency.P99 })
		if _, err := fmt.Fprintf(w, "%-8s %-10s fixed rate %7.0f per CPU-s, p50 %.2f p99 %.2f ms; saturated %7.0f per CPU-s, %7.0f per s\n",
			s.Name, s.Version, s.FixedPerCPU, p50, p99, s.SaturatedPerCPU, s.SaturatedPerSec); err != nil {
			return fmt.Errorf("report: %w", err)
		}
	}
	_, err := fmt.Fprintf(w, "load average before: %s; not installed: %s\n", r.LoadAvg, strings.Join(append([]string{}, r.Absent...), ", "))
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

func median(runs []Run, of func(Run) float64) float64 {
	var list []float64
	for _, r := range runs {
		list = append(list, of(r))
	}
	slices.Sort(list)
	return list[len(list)/2]
}

// Run measures: in each round every server in turn, so that what else the
// machine does meets all of them.
func (s Scenario) Run(ctx context.Context) (*Result, error) {
	dir, err := os.MkdirTemp("", "muster-bench-dns-")
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	load, _ := os.ReadFile("/proc/loadavg")
	r := &Result{
		Load:    fmt.Sprintf("%d queries/s, then as many as are answered with %d sockets of %d under way; half with a client subnet", s.Rate, s.Sockets, s.Window),
		LoadAvg: strings.TrimSpace(string(load)), Seconds: s.Duration.Seconds(),
		Comments: "one process each, all processors, one after another; muster chooses the nearest of 5 regions by client subnet from its built-in table, nsd gives everybody the same answer, gdnsd chooses by client subnet from 8 networks",
	}
	servers := []*process{muster(s.Binary)}
	for _, peer := range []func(string) (*process, error){nsd, gdnsd} {
		p, err := peer(dir)
		if err != nil {
			return nil, err
		}
		if _, err := exec.LookPath(p.binary); err != nil {
			r.Absent = append(r.Absent, p.name)
			continue
		}
		servers = append(servers, p)
	}
	for _, p := range servers {
		if err := p.start(dir); err != nil {
			return nil, err
		}
		defer p.stop()
		if err := p.ready(ctx); err != nil {
			return nil, err
		}
		r.Servers = append(r.Servers, Server{Name: p.name, Version: p.version()})
	}
	for round := range s.Rounds {
		for i := range servers {
			at := (i + round) % len(servers)
			for _, rate := range []int{s.Rate, 0} {
				run, err := s.measure(ctx, servers[at], rate)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", servers[at].name, err)
				}
				s.Progress("%s: %.0f answers/s, %.0f per CPU-s", servers[at].name, run.PerSecond, run.PerCPU)
				if o := &r.Servers[at]; rate > 0 {
					o.Fixed = append(o.Fixed, run)
				} else {
					o.Saturated = append(o.Saturated, run)
				}
			}
		}
	}
	for i := range r.Servers {
		o := &r.Servers[i]
		o.FixedPerCPU = median(o.Fixed, func(r Run) float64 { return r.PerCPU })
		o.SaturatedPerCPU = median(o.Saturated, func(r Run) float64 { return r.PerCPU })
		o.SaturatedPerSec = median(o.Saturated, func(r Run) float64 { return r.PerSecond })
	}
	r.Head = report.NewHead("dns")
	return r, nil
}

func (s Scenario) measure(ctx context.Context, p *process, rate int) (Run, error) {
	l, err := newLoad(p.addr, s.Sockets)
	if err != nil {
		return Run{}, err
	}
	defer l.close()
	if _, err := l.run(ctx, 300*time.Millisecond, rate, s.Window); err != nil { // so that everything is warm
		return Run{}, err
	}
	before, err := p.cpu()
	if err != nil {
		return Run{}, err
	}
	began := time.Now()
	c, err := l.run(ctx, s.Duration, rate, s.Window)
	if err != nil {
		return Run{}, err
	}
	took := time.Since(began).Seconds()
	after, err := p.cpu()
	if err != nil {
		return Run{}, err
	}
	cpu := (after - before).Seconds()
	return Run{
		Sent: c.sent, Answers: c.answers, PerSecond: float64(c.answers) / took, CPU: cpu, PerCPU: float64(c.answers) / cpu,
		Latency: report.QuantilesOf(c.latency.At, c.latency.Max()),
	}, nil
}

// process is a name server.
type process struct {
	name, binary string
	args         []string
	addr         string
	ask          []string // prints the version
	cmd          *exec.Cmd
	log          string
}

func (p *process) start(dir string) error {
	p.log = filepath.Join(dir, p.name+".log")
	out, err := os.Create(p.log)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer func() { _ = out.Close() }()
	p.cmd = exec.Command(p.binary, p.args...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("bench: %s: %w", p.name, err)
	}
	return nil
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(os.Interrupt)
	ended := make(chan struct{})
	go func() {
		_ = p.cmd.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		for _, pid := range append(p.children(), p.cmd.Process.Pid) {
			if o, err := os.FindProcess(pid); err == nil {
				_ = o.Kill()
			}
		}
		<-ended
	}
}

// children are the processes below the server's own: NSD has one per processor.
func (p *process) children() (list []int) {
	below := []int{p.cmd.Process.Pid}
	for len(below) > 0 {
		pid := strconv.Itoa(below[0])
		below = below[1:]
		threads, _ := filepath.Glob("/proc/" + pid + "/task/*/children")
		for _, file := range threads {
			b, _ := os.ReadFile(file)
			for _, f := range strings.Fields(string(b)) {
				if n, err := strconv.Atoi(f); err == nil {
					list, below = append(list, n), append(below, n)
				}
			}
		}
	}
	return list
}

// cpu is what the server and its children have used.
func (p *process) cpu() (time.Duration, error) {
	sum, err := loadgen.CPU(p.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	for _, pid := range p.children() {
		if d, err := loadgen.CPU(pid); err == nil {
			sum += d
		}
	}
	return sum, nil
}

func (p *process) ready(ctx context.Context) error {
	for deadline := time.Now().Add(10 * time.Second); ; {
		if l, err := newLoad(p.addr, 1); err == nil {
			c, err := l.run(ctx, 20*time.Millisecond, 0, 1)
			l.close()
			if err == nil && c.answers > 0 {
				return nil
			}
		}
		if time.Now().After(deadline) {
			b, _ := os.ReadFile(p.log)
			return fmt.Errorf("bench: %s does not answer: %s", p.name, b)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (p *process) version() string {
	out, _ := exec.Command(p.binary, p.ask...).CombinedOutput()
	for _, word := range strings.Fields(string(out)) {
		if v := strings.Trim(word, ".,"); v != "" && v[0] >= '0' && v[0] <= '9' {
			return v
		}
	}
	return strings.TrimSpace(strings.SplitN(string(out), "\n", 2)[0])
}

// processors is how many a server may use: all there are.
func processors() int { return runtime.GOMAXPROCS(0) }
