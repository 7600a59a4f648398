package consensus

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/regions"
)

func sampleRequests() map[kind][]byte {
	h := raft.RPCHeader{ProtocolVersion: 3, ID: []byte("n1"), Addr: []byte("n1")}
	c := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "n1", Address: "n1"}}})
	return map[kind][]byte{
		kindAppend: encodeAppend(nil, &raft.AppendEntriesRequest{
			RPCHeader: h, Term: 7, PrevLogEntry: 41, PrevLogTerm: 6, LeaderCommitIndex: 40,
			Entries: []*raft.Log{
				{Index: 42, Term: 7, Type: raft.LogCommand, Data: []byte("command"), AppendedAt: time.Unix(12, 34)},
				{Index: 43, Term: 7, Type: raft.LogNoop},
				{Index: 44, Term: 7, Type: raft.LogConfiguration, Data: c},
			},
		}),
		kindVote:       encodeVote(&raft.RequestVoteRequest{RPCHeader: h, Term: 7, LastLogIndex: 42, LastLogTerm: 6, LeadershipTransfer: true}),
		kindPreVote:    encodePreVote(&raft.RequestPreVoteRequest{RPCHeader: h, Term: 7, LastLogIndex: 42, LastLogTerm: 6}),
		kindTimeoutNow: encodeTimeoutNow(&raft.TimeoutNowRequest{RPCHeader: h}),
		kindSnapshot: encodeSnapshot(&raft.InstallSnapshotRequest{
			RPCHeader: h, SnapshotVersion: 1, Term: 7, LastLogIndex: 42, LastLogTerm: 6, ConfigurationIndex: 3, Size: 1 << 40, Configuration: c,
		}),
	}
}

func decodeRequest(b []byte) (any, error) {
	d := &decoder{b: b}
	switch kind(d.byte()) {
	case kindAppend:
		return d.append()
	case kindVote:
		return d.vote()
	case kindPreVote:
		return d.preVote()
	case kindTimeoutNow:
		return d.timeoutNow()
	case kindSnapshot:
		return d.snapshot()
	default:
		return nil, errMalformed
	}
}

func encodeRequest(v any) []byte {
	switch r := v.(type) {
	case *raft.AppendEntriesRequest:
		return encodeAppend(nil, r)
	case *raft.RequestVoteRequest:
		return encodeVote(r)
	case *raft.RequestPreVoteRequest:
		return encodePreVote(r)
	case *raft.TimeoutNowRequest:
		return encodeTimeoutNow(r)
	case *raft.InstallSnapshotRequest:
		return encodeSnapshot(r)
	default:
		return nil
	}
}

func TestRequestsSurviveTheWire(t *testing.T) {
	for k, b := range sampleRequests() {
		v, err := decodeRequest(b)
		require.NoError(t, err, k)
		require.Equal(t, b, encodeRequest(v), k)
		for i := range b {
			_, err := decodeRequest(b[:i])
			require.Error(t, err, "kind %d cut at %d", k, i)
		}
	}
	v, err := decodeRequest(sampleRequests()[kindAppend])
	require.NoError(t, err)
	r := v.(*raft.AppendEntriesRequest)
	require.Equal(t, "n1", string(r.Addr))
	require.Equal(t, []byte("command"), r.Entries[0].Data)
	require.True(t, r.Entries[0].AppendedAt.Equal(time.Unix(12, 34)))
}

func TestAnswersSurviveTheWire(t *testing.T) {
	h := raft.RPCHeader{ProtocolVersion: 3, ID: []byte("n2"), Addr: []byte("n2")}
	for _, c := range []struct{ sent, got any }{
		{&raft.AppendEntriesResponse{RPCHeader: h, Term: 3, LastLog: 9, Success: true, NoRetryBackoff: true}, &raft.AppendEntriesResponse{}},
		{&raft.RequestVoteResponse{RPCHeader: h, Term: 3, Granted: true}, &raft.RequestVoteResponse{}},
		{&raft.RequestPreVoteResponse{RPCHeader: h, Term: 3, Granted: true}, &raft.RequestPreVoteResponse{}},
		{&raft.InstallSnapshotResponse{RPCHeader: h, Term: 3, Success: true}, &raft.InstallSnapshotResponse{}},
		{&raft.TimeoutNowResponse{RPCHeader: h}, &raft.TimeoutNowResponse{}},
	} {
		require.NoError(t, decodeAnswer(encodeAnswer(c.sent, nil), c.got))
		require.Equal(t, c.sent, c.got)
		require.EqualError(t, decodeAnswer(encodeAnswer(nil, raft.ErrNotVoter), c.got), raft.ErrNotVoter.Error())
	}
}

func TestWhatRaftWouldPanicOnIsRefused(t *testing.T) {
	h := raft.RPCHeader{ProtocolVersion: 3, ID: []byte("n1")}
	for _, e := range []*raft.Log{
		{Index: 1, Type: raft.LogConfiguration, Data: []byte("garbage")},
		{Index: 1, Type: raft.LogConfiguration},
		{Index: 1, Type: raft.LogAddPeerDeprecated},
		{Index: 1, Type: 77},
	} {
		_, err := decodeRequest(encodeAppend(nil, &raft.AppendEntriesRequest{RPCHeader: h, Term: 1, Entries: []*raft.Log{e}}))
		require.ErrorIs(t, err, errMalformed)
	}
	_, err := decodeRequest(encodeSnapshot(&raft.InstallSnapshotRequest{RPCHeader: h, SnapshotVersion: 1, Configuration: []byte("x")}))
	require.ErrorIs(t, err, errMalformed)
}

func TestLongAppendsAreShortened(t *testing.T) {
	r := &raft.AppendEntriesRequest{}
	for i := range 10 {
		r.Entries = append(r.Entries, &raft.Log{Index: uint64(i), Data: make([]byte, appendBytes/4)})
	}
	shorten(r)
	require.Len(t, r.Entries, 4)
	r.Entries = []*raft.Log{{Data: make([]byte, 2*appendBytes)}}
	shorten(r)
	require.Len(t, r.Entries, 1, "at least one, or nothing would move")
}

func TestFramesAreBounded(t *testing.T) {
	for _, size := range []uint64{0, maxFrame + 1, 1 << 62} {
		_, err := readFrame(bufio.NewReader(bytes.NewReader(binary.AppendUvarint(nil, size))))
		require.ErrorIs(t, err, errMalformed)
	}
	big := make([]byte, eager+1)
	got, err := readFrame(bufio.NewReader(bytes.NewReader(appendFrame(nil, big))))
	require.NoError(t, err)
	require.Len(t, got, len(big))
}

func FuzzRequest(f *testing.F) {
	for _, b := range sampleRequests() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := decodeRequest(b)
		if err != nil {
			return
		}
		again, err := decodeRequest(encodeRequest(v))
		require.NoError(t, err)
		require.Equal(t, encodeRequest(v), encodeRequest(again))
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add(encodeAnswer(&raft.AppendEntriesResponse{RPCHeader: raft.RPCHeader{ID: []byte("n")}, Term: 1}, nil))
	f.Add([]byte{byte(statusNotLeader), 'n'})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, r := range []any{&raft.AppendEntriesResponse{}, &raft.RequestVoteResponse{}, &raft.InstallSnapshotResponse{}} {
			_ = decodeAnswer(b, r)
		}
		if len(b) > 0 {
			_, _ = decodeStatus(b)
		}
	})
}

func FuzzBatch(f *testing.F) {
	f.Add(encodeBatch([]byte{entryVersion}, [][]byte{[]byte("a"), nil, []byte("ccc")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := &decoder{b: b}
		d.byte()
		parts, err := d.batch()
		if err != nil {
			return
		}
		d = &decoder{b: encodeBatch(nil, parts)}
		again, err := d.batch()
		require.NoError(t, err)
		require.Equal(t, len(parts), len(again))
	})
}

type noted struct {
	Machine
	stamps []regions.Stamp
}

func (m *noted) Apply(_ uint64, stamp regions.Stamp, _ []byte) []byte {
	m.stamps = append(m.stamps, stamp)
	return nil
}

// An entry whose stamp is of another term is no news of its own term's clock:
// nothing of it is done, and its proposer is told so.
func TestStampOfAnotherTerm(t *testing.T) {
	m := &noted{}
	f := &fsm{machine: m, version: 3, fail: func(err error) { t.Fatal(err) }}
	entry := func(numbers ...uint64) []byte {
		var b []byte
		for _, n := range numbers {
			b = binary.AppendUvarint(b, n)
		}
		return encodeBatch(b, [][]byte{[]byte("a")})
	}
	require.IsType(t, results{}, f.Apply(&raft.Log{Index: 1, Term: 7, Data: entry(2, 3, 7, 1000, 50)}))
	require.Equal(t, errStamp, f.Apply(&raft.Log{Index: 2, Term: 7, Data: entry(2, 3, 5, 2000, 60)}))
	require.EqualValues(t, 2, f.applied.Load())
	// What was written before entries had a term.
	require.IsType(t, results{}, f.Apply(&raft.Log{Index: 3, Term: 8, Data: entry(1, 3, 3000, 70)}))
	require.Equal(t, []regions.Stamp{{Term: 7, ClockMs: 1000, UptimeMs: 50}, {Term: 8, ClockMs: 3000, UptimeMs: 70}}, m.stamps)
}
