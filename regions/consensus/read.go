package consensus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mustermesh/muster/regions"
)

// reads gathers the reads of this node into rounds: whoever comes while a
// round is under way waits for the next, which begins after it came.
type reads struct {
	mu   sync.Mutex
	next *round
	wake chan struct{}
}

type round struct {
	done chan struct{}
	err  error
}

func (r *reads) join() *round {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == nil {
		r.next = &round{done: make(chan struct{})}
		select {
		case r.channel() <- struct{}{}:
		default:
		}
	}
	return r.next
}

func (r *reads) channel() chan struct{} {
	if r.wake == nil {
		r.wake = make(chan struct{}, 1)
	}
	return r.wake
}

func (r *reads) start() *round {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.next
	r.next = nil
	return now
}

// Read makes what this node's machine shows after it current: it includes
// everything that was acknowledged or shown anywhere in the region before Read
// was called. It works on every node, leader, voter or learner, and writes
// nothing.
func (n *Node) Read(ctx context.Context) error {
	if !n.running.Load() {
		return n.stopped()
	}
	r := n.reads.join()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	case <-n.failed:
		return n.stopped()
	}
}

func (n *Node) reading(ctx context.Context) {
	n.reads.mu.Lock()
	wake := n.reads.channel()
	n.reads.mu.Unlock()
	for {
		select {
		case <-wake:
			r := n.reads.start()
			r.err = n.catchUp(ctx)
			close(r.done)
		case <-ctx.Done():
			if r := n.reads.start(); r != nil {
				r.err = ErrStopped
				close(r.done)
			}
			return
		}
	}
}

// catchUp asks the leader how far a read has to see and waits until the
// machine is there (the read index of the Raft dissertation, 6.4).
func (n *Node) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.LeaderWait)
	defer cancel()
	var index uint64
	err := n.atLeader(ctx, nil, func() (err error) {
		index, err = n.readIndex(ctx)
		return err
	}, func(leader regions.NodeID) error {
		answer, err := n.askLeader(ctx, leader, []byte{byte(kindReadIndex)})
		if errors.Is(err, ErrUnknown) { // nothing was changed: ask again
			return &notLeader{}
		}
		if err == nil {
			d := &decoder{b: answer}
			index = d.uint()
			err = d.err()
		}
		return err
	})
	if err != nil {
		return err
	}
	return n.awaitApplied(ctx, index)
}

func (n *Node) serveReadIndex(ctx context.Context) []byte {
	if !n.IsLeader() {
		return encodeStatus(&notLeader{n.Leader()})
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.LeaderWait)
	defer cancel()
	index, err := n.readIndex(ctx)
	if err != nil {
		return encodeStatus(err)
	}
	return binary.AppendUvarint([]byte{byte(statusOK)}, index)
}

// readIndex is how far everything committed by now goes, which only a leader
// can say: one that knows all of the terms before its own, and that was still
// the leader after it was asked. For that a majority of the voters must answer
// something that it sent after it looked. Raft's VerifyLeader only serves to
// make it send: it counts learners among the majority, and answers to what was
// sent before.
func (n *Node) readIndex(ctx context.Context) (uint64, error) {
	for {
		changed := n.leader.wait()
		if !n.IsLeader() {
			return 0, &notLeader{n.Leader()}
		}
		term := n.ready.Load()
		if term == 0 { // just elected
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return 0, ErrNoLeader
			}
		}
		index, began := n.raft.CommitIndex(), time.Now()
		n.raft.VerifyLeader()
		for {
			acked := n.acks.changed.wait()
			if !n.acks.quorum(n.trans.self, n.servers(), term, time.Now()).Before(began) {
				return index, nil
			}
			if n.ready.Load() != term {
				return 0, &notLeader{n.Leader()}
			}
			select {
			case <-acked:
			case <-changed:
				changed = n.leader.wait()
			case <-ctx.Done():
				return 0, ErrNoLeader
			}
		}
	}
}

// awaitApplied waits until the machine has carried out everything up to index.
func (n *Node) awaitApplied(ctx context.Context, index uint64) error {
	for {
		moved, applied := n.progress.wait(), n.fsm.moved.wait()
		if n.raft.CommitIndex() >= index {
			command, err := n.lastCommand(index)
			if err != nil || n.fsm.applied.Load() >= command {
				return err
			}
		}
		if !n.running.Load() {
			return n.stopped()
		}
		select {
		case <-moved:
		case <-applied:
		case <-ctx.Done():
			return ErrNoLeader
		}
	}
}

// lastCommand is the last index up to the given, committed one at which the
// machine had something to do; raft's own entries never reach it.
func (n *Node) lastCommand(index uint64) (uint64, error) {
	for applied := n.fsm.applied.Load(); index > applied; index-- {
		var l raft.Log
		// Not through the guard: it would end the wrong goroutine.
		err := n.storage.log.LogStore.GetLog(index, &l)
		if errors.Is(err, raft.ErrLogNotFound) {
			return 0, nil // in a snapshot, and so in the machine
		}
		if err != nil {
			return 0, fmt.Errorf("%w: %w", ErrStopped, err)
		}
		if l.Type == raft.LogCommand {
			return index, nil
		}
	}
	return index, nil
}
