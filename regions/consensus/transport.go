package consensus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/mustermesh/muster/regions"
)

// Links are the node's links to the others of its region; peerlink.Links is
// one.
type Links interface {
	// Open opens a stream to a node, which serves it with Node.Serve there. It
	// is in order and both ways; Close ends it well, the end of ctx gives it
	// up. A stream must not wait for another. An error with regions.ErrUnsent
	// in its chain says that the node can't be reached.
	Open(ctx context.Context, to regions.NodeID) (io.ReadWriteCloser, error)
}

const (
	// inFlight bounds the requests to append under way to one node. More than
	// two costs latency under load and gains nothing (hashicorp/raft#541).
	inFlight = 2
	// slowest is the lowest rate at which a snapshot may travel, bytes per
	// second.
	slowest = 256 << 10
)

// transport is raft's: each request a stream, appends to a node that keeps up
// all on one, so that the next needn't wait for the answer to the last.
type transport struct {
	self    raft.ServerID
	links   Links
	timeout time.Duration
	quiet   time.Duration // at the longest between appends that have nothing new
	acks    *acks
	moved   *signal // a request to append was handled here
	blank   *atomic.Bool

	consumer chan raft.RPC
	ctx      context.Context // ends with the node
	work     sync.WaitGroup  // pipelines

	mu        sync.Mutex
	heartbeat func(raft.RPC)
}

func newTransport(ctx context.Context, cfg *Config, a *acks, moved *signal, blank *atomic.Bool) *transport {
	return &transport{
		self: raft.ServerID(cfg.Self), links: cfg.Links, acks: a, moved: moved, blank: blank,
		timeout: max(2*cfg.Heartbeat, 500*time.Millisecond), quiet: cfg.Heartbeat / 2,
		consumer: make(chan raft.RPC), ctx: ctx,
	}
}

func (t *transport) Consumer() <-chan raft.RPC                                { return t.consumer }
func (t *transport) LocalAddr() raft.ServerAddress                            { return raft.ServerAddress(t.self) }
func (t *transport) EncodePeer(id raft.ServerID, _ raft.ServerAddress) []byte { return []byte(id) }
func (t *transport) DecodePeer(b []byte) raft.ServerAddress                   { return raft.ServerAddress(b) }

func (t *transport) SetHeartbeatHandler(f func(raft.RPC)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heartbeat = f
}

func (t *transport) AppendEntries(id raft.ServerID, _ raft.ServerAddress, r *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	shorten(r)
	sent := time.Now()
	if err := t.request(id, encodeAppend(nil, r), resp); err != nil {
		return err
	}
	t.acks.add(id, r.Term, resp.Term, sent)
	return nil
}

func (t *transport) RequestVote(id raft.ServerID, _ raft.ServerAddress, r *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if t.blank.Load() {
		return errBlank
	}
	return t.request(id, encodeVote(r), resp)
}

func (t *transport) RequestPreVote(id raft.ServerID, _ raft.ServerAddress, r *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if t.blank.Load() {
		return errBlank
	}
	return t.request(id, encodePreVote(r), resp)
}

func (t *transport) TimeoutNow(id raft.ServerID, _ raft.ServerAddress, r *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return t.request(id, encodeTimeoutNow(r), resp)
}

func (t *transport) InstallSnapshot(id raft.ServerID, _ raft.ServerAddress, r *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	ctx, cancel := context.WithTimeout(t.ctx, 10*t.timeout+time.Duration(r.Size/slowest)*time.Second)
	defer cancel()
	s, err := t.links.Open(ctx, regions.NodeID(id))
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := s.Write(appendFrame(nil, encodeSnapshot(r))); err != nil {
		return err
	}
	if _, err := io.Copy(s, data); err != nil {
		cancel() // the rest will not come
		return err
	}
	b, err := readFrame(bufio.NewReader(s))
	if err != nil {
		return err
	}
	return decodeAnswer(b, resp)
}

// request makes a request of raft's on a stream of its own.
func (t *transport) request(to raft.ServerID, frame []byte, resp any) error {
	ctx, cancel := context.WithTimeout(t.ctx, t.timeout)
	defer cancel()
	b, err := ask(ctx, t.links, regions.NodeID(to), frame)
	if err != nil {
		return err
	}
	return decodeAnswer(b, resp)
}

// ask makes any request.
func ask(ctx context.Context, links Links, to regions.NodeID, frame []byte) ([]byte, error) {
	s, err := links.Open(ctx, to)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if _, err := s.Write(appendFrame(nil, frame)); err != nil {
		return nil, fmt.Errorf("ask %s: %w", to, err)
	}
	b, err := readFrame(bufio.NewReaderSize(s, 4<<10))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", to, unexpected(err))
	}
	return b, nil
}

// shorten leaves of a request what fits a frame. Raft bounds the number of
// entries, not their size; it reads the request after it was sent to see how
// far it came, so it sends the rest next.
func shorten(r *raft.AppendEntriesRequest) {
	size := 0
	for i, e := range r.Entries {
		if size += len(e.Data); size > appendBytes && i > 0 {
			r.Entries = r.Entries[:i]
			return
		}
	}
}

// AppendEntriesPipeline opens a stream for appends to a node that keeps up.
func (t *transport) AppendEntriesPipeline(id raft.ServerID, _ raft.ServerAddress) (raft.AppendPipeline, error) {
	ctx, cancel := context.WithCancel(t.ctx)
	timer := time.AfterFunc(t.timeout, cancel)
	s, err := t.links.Open(ctx, regions.NodeID(id))
	if err != nil || !timer.Stop() {
		cancel()
		return nil, errors.Join(err, ctx.Err())
	}
	p := &pipeline{
		t: t, to: id, stream: s, ctx: ctx, cancel: cancel,
		sent: make(chan *appended, inFlight-1), done: make(chan raft.AppendFuture),
	}
	t.work.Go(p.receive)
	return p, nil
}

// pipeline is a raft.AppendPipeline. Its context ends at its first error, after
// which AppendEntries refuses; raft then opens another. Raft has something to
// send every CommitTimeout, so that followers hear soon what was committed; as
// long as that is nothing new it stays here, but for a sign now and then to
// notice a follower that started anew. A request that failed is
// never handed to Consumer: raft would take it for a sign of life.
type pipeline struct {
	t      *transport
	to     raft.ServerID
	stream io.ReadWriteCloser
	ctx    context.Context
	cancel context.CancelFunc
	sent   chan *appended
	done   chan raft.AppendFuture
	due    atomic.Int32 // requests without an answer that raft has seen

	// The sender's own: buffers, and what was sent last.
	buf, frame []byte
	commit     uint64
	last       time.Time
}

// appended is a request under way, and its raft.AppendFuture.
type appended struct {
	start   time.Time
	request *raft.AppendEntriesRequest
	answer  *raft.AppendEntriesResponse
}

func (a *appended) Error() error                          { return nil }
func (a *appended) Start() time.Time                      { return a.start }
func (a *appended) Request() *raft.AppendEntriesRequest   { return a.request }
func (a *appended) Response() *raft.AppendEntriesResponse { return a.answer }

func (p *pipeline) AppendEntries(r *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	now := time.Now()
	// Nothing new stays here, but for a sign now and then, and unless answers
	// are due: raft tries again at once then, and has to be held up. It doesn't
	// look at the future.
	if len(r.Entries) == 0 && r.LeaderCommitIndex == p.commit && now.Sub(p.last) < p.t.quiet && p.due.Load() == 0 && p.ctx.Err() == nil {
		return nil, nil
	}
	p.commit, p.last = r.LeaderCommitIndex, now
	shorten(r)
	a := &appended{start: now, request: r, answer: resp}
	select {
	case p.sent <- a: // before writing: the answer may be there soon
	case <-p.ctx.Done():
		return nil, raft.ErrPipelineShutdown
	}
	p.due.Add(1)
	p.frame = encodeAppend(p.frame[:0], r)
	p.buf = appendFrame(p.buf[:0], p.frame)
	if _, err := p.stream.Write(p.buf); err != nil {
		p.cancel()
		return nil, err
	}
	if cap(p.buf) > eager { // an idle pipeline holds little
		p.buf, p.frame = nil, nil
	}
	return a, nil
}

func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.done }

// Close gives the stream up: a request that has no answer by now is not worth
// one.
func (p *pipeline) Close() error {
	p.cancel()
	return nil
}

func (p *pipeline) receive() {
	defer p.cancel()
	r := bufio.NewReaderSize(p.stream, 512)
	for {
		var a *appended
		select {
		case a = <-p.sent:
		case <-p.ctx.Done():
			return
		}
		timer := time.AfterFunc(p.t.timeout, p.cancel)
		b, err := readFrame(r)
		timer.Stop()
		if err == nil {
			err = decodeAnswer(b, a.answer)
		}
		if err != nil {
			return
		}
		p.t.acks.add(p.to, a.request.Term, a.answer.Term, a.start)
		select {
		case p.done <- a:
			p.due.Add(-1)
		case <-p.ctx.Done():
			return
		}
	}
}

// serve hands raft one request of a peer and returns the answer. r is where a
// snapshot's bytes come from.
func (t *transport) serve(ctx context.Context, from regions.NodeID, k kind, d *decoder, r io.Reader) ([]byte, error) {
	answers := make(chan raft.RPCResponse, 1)
	rpc := raft.RPC{RespChan: answers}
	heartbeat := false
	var err error
	var header raft.RPCHeader
	switch k {
	case kindAppend:
		var q *raft.AppendEntriesRequest
		if q, err = d.append(); err == nil {
			rpc.Command, header = q, q.RPCHeader
			heartbeat = q.Term != 0 && q.PrevLogEntry == 0 && q.PrevLogTerm == 0 && len(q.Entries) == 0 && q.LeaderCommitIndex == 0
		}
	case kindVote:
		var q *raft.RequestVoteRequest
		if q, err = d.vote(); err == nil {
			rpc.Command, header = q, q.RPCHeader
		}
	case kindPreVote:
		var q *raft.RequestPreVoteRequest
		if q, err = d.preVote(); err == nil {
			rpc.Command, header = q, q.RPCHeader
		}
	case kindTimeoutNow:
		var q *raft.TimeoutNowRequest
		if q, err = d.timeoutNow(); err == nil {
			rpc.Command, header = q, q.RPCHeader
		}
	case kindSnapshot:
		var q *raft.InstallSnapshotRequest
		if q, err = d.snapshot(); err == nil {
			rpc.Command, header = q, q.RPCHeader
			rpc.Reader = io.LimitReader(r, q.Size)
		}
	default:
		err = fmt.Errorf("%w: request of kind %d", errMalformed, k)
	}
	if err != nil {
		return nil, err
	}
	if regions.NodeID(header.ID) != from {
		return nil, fmt.Errorf("%w: %s speaks as %q", errMalformed, from, header.ID)
	}
	if t.blank.Load() && (k == kindVote || k == kindPreVote || k == kindTimeoutNow) {
		return encodeAnswer(nil, errBlank), nil
	}
	t.mu.Lock()
	fast := t.heartbeat
	t.mu.Unlock()
	if heartbeat && fast != nil { // never behind the disk
		fast(rpc)
	} else {
		select {
		case t.consumer <- rpc:
		case <-t.ctx.Done():
			return nil, raft.ErrTransportShutdown
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	select {
	case a := <-answers:
		if resp, ok := a.Response.(*raft.AppendEntriesResponse); ok && a.Error == nil && resp.Success {
			t.acks.heard()
			t.moved.fire()
		}
		return encodeAnswer(a.Response, a.Error), nil
	case <-t.ctx.Done():
		return nil, raft.ErrTransportShutdown
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
