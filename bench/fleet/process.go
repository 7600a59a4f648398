package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mustermesh/muster/internal/node"
	"github.com/mustermesh/muster/regions"
)

// Process is one `muster serve`. Its methods are for one goroutine at a time,
// but for those that ask.
type Process struct {
	ID       regions.NodeID
	HTTP, WS string
	WT       string // empty without WebTransport
	Admin    string // address
	fleet    *Fleet
	log      string

	mu     sync.Mutex // guards the following
	cmd    *exec.Cmd  // nil before the first Start
	exited chan struct{}
	err    error
}

const (
	readyLimit = 60 * time.Second
	endLimit   = 15 * time.Second
)

// Start starts the process, again after it has exited.
func (p *Process) Start() error {
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	cmd := exec.Command(p.fleet.cfg.Binary, "serve", "--config", p.fleet.config(p))
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = p.fleet.env(), out, out, dieWithParent()
	started, exited := make(chan error), make(chan struct{})
	p.mu.Lock()
	defer p.mu.Unlock()
	// The kernel sends the signal when the thread ends that started the
	// process: this one stays as long as it.
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		_ = out.Close()
		started <- err
		if err != nil {
			return
		}
		err = cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(exited)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("fleet: start %s: %w", p.ID, err)
	}
	p.cmd, p.exited, p.err = cmd, exited, nil
	return nil
}

// PID is the process's id; 0 if there is none.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Signal sends a signal to the process.
func (p *Process) Signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return fmt.Errorf("fleet: %s never ran", p.ID)
	}
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("fleet: %s: %w", p.ID, err)
	}
	return nil
}

// Exited waits until the process has ended, and says how.
func (p *Process) Exited(ctx context.Context) error {
	p.mu.Lock()
	exited := p.exited
	p.mu.Unlock()
	if exited == nil {
		return nil
	}
	select {
	case <-exited:
	case <-ctx.Done():
		return fmt.Errorf("fleet: %s does not end: %w", p.ID, ctx.Err())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Kill ends it at once, if it hasn't ended, and waits for that.
func (p *Process) Kill(ctx context.Context) error {
	if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	err := p.Exited(ctx)
	if _, killed := errors.AsType[*exec.ExitError](err); killed {
		return nil
	}
	return err
}

// Restart ends the process in an orderly way and starts it again.
func (p *Process) Restart(ctx context.Context) error {
	if err := p.Terminate(ctx); err != nil {
		return err
	}
	if err := p.Start(); err != nil {
		return err
	}
	return p.Ready(ctx)
}

// Terminate asks the process to drain and end (SIGTERM), and waits for that.
func (p *Process) Terminate(ctx context.Context) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := p.Exited(ctx); err != nil {
		return fmt.Errorf("fleet: %s did not end well: %w: %s", p.ID, err, p.tail())
	}
	return nil
}

// end is for Stop: whatever state it is in.
func (p *Process) end() {
	if p.PID() == 0 {
		return
	}
	_ = p.Signal(syscall.SIGCONT)
	if p.Signal(syscall.SIGTERM) != nil {
		return // has ended
	}
	ctx, cancel := context.WithTimeout(context.Background(), endLimit)
	defer cancel()
	if err := p.Exited(ctx); errors.Is(err, context.DeadlineExceeded) {
		_ = p.Signal(syscall.SIGKILL)
		_ = p.Exited(context.Background())
	}
}

// Ready waits until the process takes traffic. If it ends instead, the error
// has the end of its log.
func (p *Process) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := p.get(ctx, "/readyz"); err == nil {
			return nil
		}
		p.mu.Lock()
		exited := p.exited
		p.mu.Unlock()
		select {
		case <-exited:
			return fmt.Errorf("fleet: %s ended at its start: %s", p.ID, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("fleet: %s is not ready: %w: %s", p.ID, ctx.Err(), p.tail())
		case <-tick.C:
		}
	}
}

// tail is the end of the log.
func (p *Process) tail() string {
	b, _ := os.ReadFile(p.log)
	return strings.TrimSpace(string(b[max(0, len(b)-2000):]))
}

func (p *Process) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.Admin+path, nil)
	if err != nil {
		return nil, err
	}
	return p.do(req)
}

func (p *Process) do(req *http.Request) ([]byte, error) {
	resp, err := p.fleet.admin.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fleet: %s: %w", p.ID, err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return nil, fmt.Errorf("fleet: %s: %w", p.ID, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fleet: %s: %s: %s", p.ID, resp.Status, b[:min(len(b), 200)])
	}
	return b, nil
}

// Roster is the region as this process knows it.
func (p *Process) Roster(ctx context.Context) (r node.RegionView, err error) {
	var v node.RosterView
	b, err := p.get(ctx, "/ctl/roster")
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &v); err != nil || len(v.Regions) != 1 {
		return r, fmt.Errorf("fleet: %s: roster %.200q", p.ID, b)
	}
	return v.Regions[0], nil
}

// OwnerOf reads the owner of a room off a roster; empty: nobody.
func OwnerOf(r node.RegionView, room string) string {
	if i := r.Slots.Owners[regions.SlotOf(room)]; i > 0 {
		return r.Nodes[i-1].ID
	}
	return ""
}

// Ctl runs `muster ctl` against this process.
func (p *Process) Ctl(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, p.fleet.cfg.Binary, append([]string{"ctl", "--admin", p.Admin}, args...)...)
	cmd.Env = p.fleet.env()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("fleet: muster ctl %s: %w: %.300s", strings.Join(args, " "), err, out)
	}
	return nil
}

// Metric sums a metric over its labels; 0 if it isn't there.
func (p *Process) Metric(ctx context.Context, name string) (sum float64, err error) {
	b, err := p.get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		fields := strings.Fields(rest)
		v, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			return 0, fmt.Errorf("fleet: %s: metric %q", p.ID, line)
		}
		sum += v
	}
	return sum, nil
}

// Bucket is how many observations of a histogram were at most Le.
type Bucket struct {
	Le    float64
	Count float64
}

// Histogram returns the buckets of a metric that has no labels of its own, by Le.
func (p *Process) Histogram(ctx context.Context, name string) (list []Bucket, err error) {
	b, err := p.get(ctx, "/metrics")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		if !strings.HasPrefix(line, name+"_bucket{") {
			continue
		}
		_, rest, _ := strings.Cut(line, `le="`) // the last label, behind the node's
		le, count, _ := strings.Cut(rest, `"}`)
		var one Bucket
		if one.Le, err = strconv.ParseFloat(le, 64); err == nil {
			one.Count, err = strconv.ParseFloat(strings.TrimSpace(count), 64)
		}
		if err != nil {
			return nil, fmt.Errorf("fleet: %s: %q: %w", p.ID, line, err)
		}
		list = append(list, one)
	}
	return list, nil
}
