// Package hashers computes password hashes in processes of their own, of a lower
// priority than the node's.
//
// A hash takes 20 ms of a core and 19 MiB, again and again under a storm of
// sign-ins. In the process of a node that costs more than the core: a goroutine
// that hashes holds one of the runtime's processors, which nothing takes from it
// before it has had its time, the memory keeps the collector busy, and the
// operating system can't tell what is urgent. A process of its own gets what time
// is left and no more, has a heap of its own, and is a few lines:
//
//	node ── salt, password, cost ──▶ muster hash (one thread that counts) ── sum ──▶ node
//
// One that dies is started again when it is needed, and where none can be started
// the node hashes by itself, as if there were none. They end when their input
// does, so none outlives its node.
package hashers

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/mustermesh/muster/internal/run"
)

// Cost is what a hash costs.
type Cost struct {
	Passes, MemoryKiB uint32
	Lanes             uint8
	Length            uint32 // of the sum, in bytes
}

// request is one hash; the answer is its sum.
type request struct {
	Password, Salt []byte
	Cost           Cost
}

// Here computes a hash in this process.
func Here(password, salt []byte, c Cost) []byte {
	return argon2.IDKey(password, salt, c.Passes, c.MemoryKiB, c.Lanes, c.Length)
}

// Serve computes what r asks for, until it ends.
func Serve(r io.Reader, w io.Writer) error {
	yield()
	in, out := gob.NewDecoder(r), gob.NewEncoder(w)
	for {
		var q request
		if err := in.Decode(&q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read what to hash: %w", err)
		}
		if err := out.Encode(Here(q.Password, q.Salt, q.Cost)); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}

// Pool is some such processes. It is a run.Service: Stop ends them.
type Pool struct {
	command []string
	log     *slog.Logger
	life    run.Lifecycle
	over    chan struct{} // closed by Stop
	// slots are as many as there may be processes. Who takes one puts it back; an
	// empty one is a process that was not started yet.
	slots chan slot
}

type slot struct {
	process *process
	failed  time.Time // when it could not be started
}

// startAgain is how long after a failure the next start is tried.
const startAgain = 10 * time.Second

// hashLimit is how long one hash may take, however little time is left for it.
const hashLimit = 30 * time.Second

// process is one.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	in    *gob.Encoder
	out   *gob.Decoder
}

func (p *process) kill() { _ = p.cmd.Process.Kill() }

// New returns a pool of at most so many processes, each of which is started by the
// command when it is first needed, and serves: see Serve.
func New(most int, log *slog.Logger, command ...string) *Pool {
	p := &Pool{command: command, log: log, over: make(chan struct{}), slots: make(chan slot, most)}
	for range most {
		p.slots <- slot{}
	}
	return p
}

// Start satisfies run.Service.
func (p *Pool) Start(ctx context.Context) error {
	return p.life.Start(ctx, func(context.Context) error { return nil })
}

// Stop ends the processes, once they have hashed what they were given.
func (p *Pool) Stop() {
	p.life.Stop(func() {
		close(p.over)
		for range cap(p.slots) {
			s := <-p.slots
			p.end(&s)
		}
	})
}

// Hash computes a hash in one of the processes, or here if there is none. Of more
// callers than there may be processes some wait.
func (p *Pool) Hash(ctx context.Context, password, salt []byte, c Cost) ([]byte, error) {
	select {
	case <-p.over:
		return Here(password, salt, c), nil
	default:
	}
	select {
	case <-p.over:
		return Here(password, salt, c), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case s := <-p.slots:
		defer func() { p.slots <- s }()
		return p.hash(&s, password, salt, c), nil
	}
}

func (p *Pool) hash(s *slot, password, salt []byte, c Cost) (sum []byte) {
	if s.process == nil && time.Since(s.failed) >= startAgain {
		var err error
		if s.process, err = p.start(); err != nil {
			s.failed = time.Now()
			p.log.Warn("a process that hashes passwords can't be started", "err", err)
		}
	}
	if s.process == nil {
		return Here(password, salt, c)
	}
	stuck := time.AfterFunc(hashLimit, s.process.kill)
	defer stuck.Stop()
	err := s.process.in.Encode(request{password, salt, c})
	if err == nil {
		err = s.process.out.Decode(&sum)
	}
	if err != nil || len(sum) != int(c.Length) {
		p.log.Warn("a process that hashes passwords is gone, another one will be started", "err", err)
		p.end(s)
		s.failed = time.Now()
		return Here(password, salt, c)
	}
	return sum
}

func (p *Pool) start() (*process, error) {
	cmd := exec.Command(p.command[0], p.command[1:]...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	apart(cmd)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &process{cmd, stdin, gob.NewEncoder(stdin), gob.NewDecoder(stdout)}, nil
}

// endLimit is how long a process may take to end once its input has.
const endLimit = 5 * time.Second

// end waits for a slot's process, which has nothing more to read.
func (p *Pool) end(s *slot) {
	if s.process == nil {
		return
	}
	_ = s.process.stdin.Close()
	stuck := time.AfterFunc(endLimit, s.process.kill)
	defer stuck.Stop()
	if err := s.process.cmd.Wait(); err != nil {
		p.log.Debug("a process that hashed passwords", "err", err)
	}
	s.process = nil
}
