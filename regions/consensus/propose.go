package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mustermesh/muster/regions"
)

const (
	// A batch is what becomes one entry of the log, and one write to each disk.
	batchCommands = 512
	batchBytes    = 256 << 10
	// batchesUnderWay is enough to fill one while another is on its way; more
	// would only make them smaller.
	batchesUnderWay = 2
	// retryPause is how long to wait where nothing tells when to try again.
	retryPause = 25 * time.Millisecond
)

// item is commands that were proposed together: one of this node, or a batch
// that another node forwarded.
type item struct {
	commands  [][]byte
	bytes     int
	forwarded bool
	taken     atomic.Bool // by the carrier, or by a proposer who gave up
	done      chan struct{}
	results   [][]byte
	err       error
}

func newItem(commands [][]byte, forwarded bool) *item {
	it := &item{commands: commands, forwarded: forwarded, done: make(chan struct{})}
	for _, c := range commands {
		it.bytes += len(c)
	}
	return it
}

func (it *item) finish(results [][]byte, err error) {
	it.results, it.err = results, err
	close(it.done)
}

// queue holds what waits. It is bounded in commands; a full one refuses.
type queue struct {
	limit int
	wake  chan struct{}

	mu    sync.Mutex
	items []*item
	size  int // commands
}

func (q *queue) init(limit int) { q.limit, q.wake = limit, make(chan struct{}, 1) }

func (q *queue) push(it *item) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.size+len(it.commands) > q.limit {
		return false
	}
	q.size += len(it.commands)
	q.items = append(q.items, it)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

// take returns the oldest items, as many as fit a batch, at least one if there
// is one.
func (q *queue) take() []*item {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, commands, bytes := 0, 0, 0
	for _, it := range q.items {
		commands, bytes = commands+len(it.commands), bytes+it.bytes
		if n > 0 && (commands > batchCommands || bytes > batchBytes) {
			break
		}
		n++
	}
	batch := make([]*item, 0, n)
	for _, it := range q.items[:n] {
		q.size -= len(it.commands)
		if it.taken.CompareAndSwap(false, true) {
			batch = append(batch, it)
		}
	}
	clear(q.items[:n])
	if q.items = q.items[n:]; len(q.items) == 0 {
		q.items = nil // its array ends here
	} else {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	return batch
}

// Propose has the region carry a command out and returns the machine's result.
// It waits for the leader's answer until ctx ends. After ErrUnknown, and after
// ctx ended, the command may have been carried out. The command must not be
// changed any more.
func (n *Node) Propose(ctx context.Context, command []byte) ([]byte, error) {
	began := time.Now()
	result, err := n.propose(ctx, command)
	n.metrics.proposed(err, time.Since(began))
	return result, err
}

func (n *Node) propose(ctx context.Context, command []byte) ([]byte, error) {
	switch {
	case len(command) > MaxCommand:
		return nil, ErrTooLarge
	case !n.running.Load():
		return nil, n.stopped()
	}
	if r := n.limiter.Reserve(); r.Delay() > 0 {
		delay := r.Delay()
		r.Cancel()
		return nil, ErrBusy.After(delay)
	}
	it := newItem([][]byte{command}, false)
	if !n.queue.push(it) {
		return nil, ErrBusy
	}
	select {
	case <-it.done:
	case <-ctx.Done():
		if it.taken.CompareAndSwap(false, true) { // nobody has seen it
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w: %w", ErrUnknown, ctx.Err())
	case <-n.failed:
		if it.taken.CompareAndSwap(false, true) {
			return nil, n.stopped()
		}
		<-it.done
	}
	if it.err != nil {
		return nil, it.err
	}
	return it.results[0], nil
}

// stopped is ErrStopped, with the reason if there is one.
func (n *Node) stopped() error {
	if err := n.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrStopped, err)
	}
	return ErrStopped
}

// carry takes what waits, batch by batch, to the leader.
func (n *Node) carry(ctx context.Context) {
	var work sync.WaitGroup
	slots := make(chan struct{}, batchesUnderWay)
	for ctx.Err() == nil {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			continue
		}
		var batch []*item
		for len(batch) == 0 && ctx.Err() == nil {
			select {
			case <-n.queue.wake:
				batch = n.queue.take()
			case <-ctx.Done():
			}
		}
		work.Go(func() {
			n.carryBatch(ctx, batch)
			<-slots
		})
	}
	work.Wait()
	for batch := n.queue.take(); len(batch) > 0; batch = n.queue.take() {
		finish(batch, nil, ErrStopped)
	}
}

// finish gives each item its part of the results.
func finish(batch []*item, results [][]byte, err error) {
	for _, it := range batch {
		if err != nil {
			it.finish(nil, err)
			continue
		}
		it.finish(results[:len(it.commands)], nil)
		results = results[len(it.commands):]
	}
}

// carryBatch finds the leader and has it carry the batch out. What other nodes
// forwarded goes no further than here.
func (n *Node) carryBatch(ctx context.Context, batch []*item) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.LeaderWait)
	defer cancel()
	var commands [][]byte
	err := n.atLeader(ctx, &batch, func() error {
		commands = commands[:0]
		for _, it := range batch {
			commands = append(commands, it.commands...)
		}
		results, err := n.apply(commands)
		if err == nil {
			finish(batch, results, nil)
			batch = nil
		}
		return err
	}, func(leader regions.NodeID) error {
		results, err := n.forward(ctx, leader, batch)
		if err == nil {
			finish(batch, results, nil)
			batch = nil
		}
		return err
	})
	finish(batch, nil, err)
}

// apply puts commands into the log, as the leader.
func (n *Node) apply(commands [][]byte) ([][]byte, error) {
	if len(commands) == 0 {
		return nil, nil
	}
	n.metrics.batch(len(commands))
	f := n.raft.Apply(n.entry(commands), n.cfg.LeaderWait)
	switch err := n.outcome(f); {
	case err == nil:
		if out, ok := f.Response().(results); ok {
			return out, nil
		}
		return nil, &notLeader{} // errStamp: nothing was done
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrEnqueueTimeout):
		return nil, &notLeader{} // it did not enter the log
	default:
		return nil, ErrUnknown
	}
}

// forward has the leader carry out a batch of this node's.
func (n *Node) forward(ctx context.Context, leader regions.NodeID, batch []*item) ([][]byte, error) {
	var commands [][]byte
	for _, it := range batch {
		commands = append(commands, it.commands...)
	}
	answer, err := n.askLeader(ctx, leader, encodeBatch([]byte{byte(kindPropose)}, commands))
	if err != nil {
		return nil, err
	}
	d := &decoder{b: answer}
	results, err := d.batch()
	if err != nil || len(results) != len(commands) {
		return nil, ErrUnknown
	}
	return results, nil
}

// serveProposals answers a batch that another node forwarded.
func (n *Node) serveProposals(ctx context.Context, d *decoder) ([]byte, error) {
	commands, err := d.batch()
	if err != nil {
		return nil, err
	}
	if !n.IsLeader() {
		return encodeStatus(&notLeader{n.Leader()}), nil
	}
	it := newItem(commands, true)
	if !n.queue.push(it) {
		return encodeStatus(ErrBusy), nil
	}
	select {
	case <-it.done:
	case <-ctx.Done(): // the asker has gone; what is under way goes on
		it.taken.CompareAndSwap(false, true)
		return nil, ctx.Err()
	}
	if it.err != nil {
		return encodeStatus(it.err), nil
	}
	return encodeBatch([]byte{byte(statusOK)}, it.results), nil
}
