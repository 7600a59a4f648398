package consensus

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/hashicorp/raft"
)

// What a request is; the first byte of its frame.
type kind byte

const (
	kindAppend kind = iota + 1
	kindVote
	kindPreVote
	kindTimeoutNow
	kindSnapshot // the snapshot's bytes follow the frame
	kindPropose
	kindReadIndex
	kindMember
	kindLog // how far the log goes
)

// What an answer is; the first byte of its frame.
type status byte

const (
	statusOK        status = iota
	statusError            // text: a raft request failed, or broke a rule
	statusNotLeader        // a hint at who is, perhaps empty; nothing was done
	statusBusy             // nothing was done
	statusUnknown          // the outcome is unknown
	statusFailed           // this node's consensus has failed; nothing was done
)

const (
	// maxFrame is the longest request or answer: the largest entry and what is
	// around it.
	maxFrame = 4 << 20
	// appendBytes is where a request to append stops to take more entries.
	appendBytes = 1 << 20
	// eager is what is allocated on the word of a length alone.
	eager = 64 << 10
)

var errMalformed = errors.New("consensus: malformed frame")

func appendFrame(b, frame []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(frame))), frame...)
}

// readFrame reads a frame with its length in front. The result is the
// caller's. At the end of the stream it returns io.EOF.
func readFrame(r *bufio.Reader) ([]byte, error) {
	size, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	if size == 0 || size > maxFrame {
		return nil, fmt.Errorf("%w: length %d", errMalformed, size)
	}
	if size <= eager {
		b := make([]byte, size)
		_, err = io.ReadFull(r, b)
		return b, unexpected(err)
	}
	var buf bytes.Buffer
	_, err = io.CopyN(&buf, r, int64(size))
	return buf.Bytes(), unexpected(err)
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// encode and decode below: numbers as varints, bytes with their length.

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendHeader(b []byte, h raft.RPCHeader) []byte {
	b = binary.AppendUvarint(b, uint64(h.ProtocolVersion))
	return appendFrame(b, h.ID)
}

// decoder takes values off a frame; after the first that isn't there all are
// zero, and err tells.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) err() error {
	if d.bad {
		return errMalformed
	}
	return nil
}

func (d *decoder) uint() uint64 {
	x, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.b, d.bad = nil, true
		return 0
	}
	d.b = d.b[n:]
	return x
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.bad = true
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) bool() bool { return d.byte() != 0 }

// bytes returns a part of the frame, nil for none.
func (d *decoder) bytes() []byte {
	n := d.uint()
	if d.bad || n > uint64(len(d.b)) {
		d.b, d.bad = nil, true
		return nil
	}
	if n == 0 {
		return nil
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

// count is a number of things of which each takes at least a byte.
func (d *decoder) count() int {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.b, d.bad = nil, true
		return 0
	}
	return int(n)
}

// header: a node's address in raft is its id, so one of them travels.
func (d *decoder) header() raft.RPCHeader {
	v := d.uint()
	if v > math.MaxInt32 {
		d.bad = true
	}
	id := d.bytes()
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersion(v), ID: id, Addr: id}
}

func encodeAppend(b []byte, r *raft.AppendEntriesRequest) []byte {
	b = appendHeader(append(b, byte(kindAppend)), r.RPCHeader)
	b = binary.AppendUvarint(b, r.Term)
	b = binary.AppendUvarint(b, r.PrevLogEntry)
	b = binary.AppendUvarint(b, r.PrevLogTerm)
	b = binary.AppendUvarint(b, r.LeaderCommitIndex)
	b = binary.AppendUvarint(b, uint64(len(r.Entries)))
	for _, e := range r.Entries {
		b = append(b, byte(e.Type))
		b = binary.AppendUvarint(b, e.Index)
		b = binary.AppendUvarint(b, e.Term)
		var at int64
		if !e.AppendedAt.IsZero() {
			at = e.AppendedAt.UnixNano()
		}
		b = binary.AppendUvarint(b, uint64(at))
		b = appendFrame(b, e.Data)
	}
	return b
}

func (d *decoder) append() (*raft.AppendEntriesRequest, error) {
	r := &raft.AppendEntriesRequest{
		RPCHeader: d.header(), Term: d.uint(), PrevLogEntry: d.uint(), PrevLogTerm: d.uint(), LeaderCommitIndex: d.uint(),
	}
	n := d.count()
	for range n {
		e := &raft.Log{Type: raft.LogType(d.byte()), Index: d.uint(), Term: d.uint()}
		if at := int64(d.uint()); at != 0 {
			e.AppendedAt = time.Unix(0, at)
		}
		e.Data = d.bytes()
		if d.bad {
			break
		}
		// Raft panics on what it can't read, so it must not come so far.
		switch e.Type {
		case raft.LogCommand, raft.LogNoop, raft.LogBarrier:
		case raft.LogConfiguration:
			if err := checkConfiguration(e.Data); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("%w: entry of type %d", errMalformed, e.Type)
		}
		r.Entries = append(r.Entries, e)
	}
	return r, d.err()
}

// checkConfiguration says whether raft can decode a configuration.
func checkConfiguration(b []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: configuration: %v", errMalformed, p)
		}
	}()
	if len(b) > eager {
		return fmt.Errorf("%w: configuration of %d bytes", errMalformed, len(b))
	}
	if len(raft.DecodeConfiguration(b).Servers) == 0 {
		return fmt.Errorf("%w: configuration without servers", errMalformed)
	}
	return nil
}

func encodeVote(r *raft.RequestVoteRequest) []byte {
	b := appendHeader([]byte{byte(kindVote)}, r.RPCHeader)
	b = binary.AppendUvarint(b, r.Term)
	b = binary.AppendUvarint(b, r.LastLogIndex)
	b = binary.AppendUvarint(b, r.LastLogTerm)
	return appendBool(b, r.LeadershipTransfer)
}

func (d *decoder) vote() (*raft.RequestVoteRequest, error) {
	r := &raft.RequestVoteRequest{
		RPCHeader: d.header(), Term: d.uint(), LastLogIndex: d.uint(), LastLogTerm: d.uint(), LeadershipTransfer: d.bool(),
	}
	//lint:ignore SA1019 raft itself still reads the deprecated field in places
	r.Candidate = r.Addr
	return r, d.err()
}

func encodePreVote(r *raft.RequestPreVoteRequest) []byte {
	b := appendHeader([]byte{byte(kindPreVote)}, r.RPCHeader)
	b = binary.AppendUvarint(b, r.Term)
	b = binary.AppendUvarint(b, r.LastLogIndex)
	return binary.AppendUvarint(b, r.LastLogTerm)
}

func (d *decoder) preVote() (*raft.RequestPreVoteRequest, error) {
	r := &raft.RequestPreVoteRequest{RPCHeader: d.header(), Term: d.uint(), LastLogIndex: d.uint(), LastLogTerm: d.uint()}
	return r, d.err()
}

func encodeTimeoutNow(r *raft.TimeoutNowRequest) []byte {
	return appendHeader([]byte{byte(kindTimeoutNow)}, r.RPCHeader)
}

func (d *decoder) timeoutNow() (*raft.TimeoutNowRequest, error) {
	return &raft.TimeoutNowRequest{RPCHeader: d.header()}, d.err()
}

func encodeSnapshot(r *raft.InstallSnapshotRequest) []byte {
	b := appendHeader([]byte{byte(kindSnapshot)}, r.RPCHeader)
	b = binary.AppendUvarint(b, uint64(r.SnapshotVersion))
	b = binary.AppendUvarint(b, r.Term)
	b = binary.AppendUvarint(b, r.LastLogIndex)
	b = binary.AppendUvarint(b, r.LastLogTerm)
	b = binary.AppendUvarint(b, r.ConfigurationIndex)
	b = binary.AppendUvarint(b, uint64(r.Size))
	return appendFrame(b, r.Configuration)
}

func (d *decoder) snapshot() (*raft.InstallSnapshotRequest, error) {
	r := &raft.InstallSnapshotRequest{
		RPCHeader: d.header(), SnapshotVersion: raft.SnapshotVersion(d.byte()), Term: d.uint(),
		LastLogIndex: d.uint(), LastLogTerm: d.uint(), ConfigurationIndex: d.uint(), Size: int64(d.uint()), Configuration: d.bytes(),
	}
	r.Leader = r.Addr
	switch {
	case d.bad:
		return nil, errMalformed
	case r.Size < 0:
		return nil, fmt.Errorf("%w: snapshot of %d bytes", errMalformed, r.Size)
	case r.SnapshotVersion != raft.SnapshotVersionMax: // older ones name peers by address
		return nil, fmt.Errorf("%w: snapshot version %d", errMalformed, r.SnapshotVersion)
	}
	return r, checkConfiguration(r.Configuration)
}

// encodeAnswer encodes what raft answers to a request.
func encodeAnswer(response any, err error) []byte {
	if err != nil {
		return append([]byte{byte(statusError)}, err.Error()...)
	}
	b := []byte{byte(statusOK)}
	switch r := response.(type) {
	case *raft.AppendEntriesResponse:
		b = appendHeader(b, r.RPCHeader)
		b = binary.AppendUvarint(b, r.Term)
		b = binary.AppendUvarint(b, r.LastLog)
		b = appendBool(b, r.Success)
		return appendBool(b, r.NoRetryBackoff)
	case *raft.RequestVoteResponse:
		b = appendHeader(b, r.RPCHeader)
		b = binary.AppendUvarint(b, r.Term)
		return appendBool(b, r.Granted)
	case *raft.RequestPreVoteResponse:
		b = appendHeader(b, r.RPCHeader)
		b = binary.AppendUvarint(b, r.Term)
		return appendBool(b, r.Granted)
	case *raft.InstallSnapshotResponse:
		b = appendHeader(b, r.RPCHeader)
		b = binary.AppendUvarint(b, r.Term)
		return appendBool(b, r.Success)
	case *raft.TimeoutNowResponse:
		return appendHeader(b, r.RPCHeader)
	default:
		return fmt.Appendf([]byte{byte(statusError)}, "no answer known for %T", response)
	}
}

// decodeAnswer decodes an answer of raft's into response.
func decodeAnswer(b []byte, response any) error {
	d := &decoder{b: b}
	switch s := status(d.byte()); {
	case d.bad:
		return errMalformed
	case s == statusError:
		return errors.New(string(d.b))
	case s != statusOK:
		return fmt.Errorf("%w: answer of status %d", errMalformed, s)
	}
	switch r := response.(type) {
	case *raft.AppendEntriesResponse:
		*r = raft.AppendEntriesResponse{RPCHeader: d.header(), Term: d.uint(), LastLog: d.uint(), Success: d.bool(), NoRetryBackoff: d.bool()}
	case *raft.RequestVoteResponse:
		*r = raft.RequestVoteResponse{RPCHeader: d.header(), Term: d.uint(), Granted: d.bool()}
	case *raft.RequestPreVoteResponse:
		*r = raft.RequestPreVoteResponse{RPCHeader: d.header(), Term: d.uint(), Granted: d.bool()}
	case *raft.InstallSnapshotResponse:
		*r = raft.InstallSnapshotResponse{RPCHeader: d.header(), Term: d.uint(), Success: d.bool()}
	case *raft.TimeoutNowResponse:
		*r = raft.TimeoutNowResponse{RPCHeader: d.header()}
	}
	return d.err()
}

// encodeBatch appends commands, or results, as one entry or answer carries
// them.
func encodeBatch(b []byte, parts [][]byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(parts)))
	for _, p := range parts {
		b = appendFrame(b, p)
	}
	return b
}

func (d *decoder) batch() ([][]byte, error) {
	parts := make([][]byte, 0, d.count())
	for range cap(parts) {
		parts = append(parts, d.bytes())
	}
	if len(d.b) > 0 {
		d.bad = true
	}
	return parts, d.err()
}
