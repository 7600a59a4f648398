package roster

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/regions"
)

const sessions = 50_000

func userOf(i int) string { return fmt.Sprintf("%08d-0000-4000-8000-000000000000", i) }
func roomOf(i int) string { return fmt.Sprintf("group:%08d-0000-4000-8000-000000000000", i) }

func opening(i int, conn uint64) *peer.RosterCommand {
	return command(&peer.SessionOpen{
		User: userOf(i), Device: "device", Node: fmt.Sprintf("eu-west-%d", i%3+1), Incarnation: 1, Connection: conn,
		Login: userOf(i + 1e6), Name: fmt.Sprintf("somebody %d", i), Transport: wire.Transport_WEBSOCKET,
	})
}

// crowd is a region of three nodes and n sessions, each in two rooms of 50.
func crowd(t testing.TB, n int) *Machine {
	m := NewMachine("eu-west")
	stamp := regions.Stamp{Term: 1, ClockMs: 1_000_000}
	index := uint64(0)
	do := func(c *peer.RosterCommand) *peer.RosterAnswer {
		index++
		a := apply(t, m, index, seal(t, stamp, c))[0]
		require.Zero(t, a.Code)
		return a
	}
	for i := range 3 {
		do(command(&peer.NodeUp{Node: fmt.Sprintf("eu-west-%d", i+1), Incarnation: 1, Capacity: 1}))
	}
	do(command(&peer.SlotBalance{Max: 1024}))
	rooms := max(1, n/25)
	for i := range n {
		a := do(opening(i, uint64(i)))
		do(command(&peer.RoomJoin{User: userOf(i), Device: "device", Epoch: a.Epoch, Rooms: []string{roomOf(i % rooms), roomOf((i + rooms/2) % rooms)}}))
	}
	return m
}

// BenchmarkOpen is one command in its entry, decoded, applied, answered: a
// device of 50,000 that comes back on another connection.
func BenchmarkOpen(b *testing.B) {
	m := crowd(b, sessions)
	entries := make([]entry, 100_000)
	for i := range entries {
		entries[i] = seal(b, regions.Stamp{Term: 1, ClockMs: 2_000_000}, opening(i*7919%sessions, uint64(sessions+i)))
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		e := entries[i%len(entries)]
		m.Apply(uint64(1_000_000+i), e.stamp, e.commands[0])
		i++
	}
}

func BenchmarkJoinLeave(b *testing.B) {
	m := crowd(b, sessions)
	x, _ := m.state.Session(userOf(7), "device")
	stamp := regions.Stamp{Term: 1, ClockMs: 2_000_000}
	join := command(&peer.RoomJoin{User: x.User, Device: x.Device, Epoch: uint64(x.Epoch), Rooms: []string{roomOf(900)}})
	leave := command(&peer.RoomLeave{User: x.User, Device: x.Device, Epoch: uint64(x.Epoch), Rooms: []string{roomOf(900)}})
	b.ReportAllocs()
	for b.Loop() {
		m.state.Apply(stamp, join)
		m.state.Apply(stamp, leave)
	}
}

func BenchmarkRoomMembers(b *testing.B) {
	m := crowd(b, sessions)
	b.ReportAllocs()
	for b.Loop() {
		m.View(func(s *State, _ uint64) { s.RoomMembers(roomOf(7)) })
	}
}

func BenchmarkPlan(b *testing.B) {
	m := crowd(b, 3)
	for b.Loop() {
		m.state.Plan(1024)
	}
}

// BenchmarkSnapshot reports how long commands wait for it, its size, and how
// long it takes to be written and read.
func BenchmarkSnapshot(b *testing.B) {
	m := crowd(b, sessions)
	var stalls []time.Duration
	var write, read time.Duration
	size, n := 0, 0
	for b.Loop() {
		start := time.Now()
		w := m.Snapshot()
		stalls = append(stalls, time.Since(start))
		var buf bytes.Buffer
		start = time.Now()
		if err := w(&buf); err != nil {
			b.Fatal(err)
		}
		write += time.Since(start)
		size = buf.Len()
		start = time.Now()
		if _, _, err := restore(&buf, "eu-west"); err != nil {
			b.Fatal(err)
		}
		read += time.Since(start)
		n++
	}
	slices.Sort(stalls)
	b.ReportMetric(float64(stalls[n/2].Microseconds()), "µs-median-stall")
	b.ReportMetric(float64(stalls[n-1].Microseconds()), "µs-longest-stall")
	b.ReportMetric(float64(write.Microseconds())/float64(n)/1000, "ms-write")
	b.ReportMetric(float64(read.Microseconds())/float64(n)/1000, "ms-read")
	b.ReportMetric(float64(size)/(1<<20), "MiB")
}

// BenchmarkDeadNode is the longest command: a third of 50,000 sessions is
// suspended and a third of the slots moves.
func BenchmarkDeadNode(b *testing.B) {
	m := crowd(b, sessions)
	var image bytes.Buffer
	require.NoError(b, m.Snapshot()(&image))
	stamp := regions.Stamp{Term: 1, ClockMs: 3_000_000}
	n := 0
	var longest, total time.Duration
	for b.Loop() {
		b.StopTimer()
		require.NoError(b, m.Restore(bytes.NewReader(image.Bytes())))
		b.StartTimer()
		start := time.Now()
		_, effects := m.state.Apply(stamp, command(&peer.NodeDown{Node: "eu-west-1", Incarnation: 1}))
		took := time.Since(start)
		total, longest, n = total+took, max(longest, took), n+1
		require.Greater(b, len(effects), sessions/3)
	}
	b.ReportMetric(float64(total.Microseconds())/float64(n)/1000, "ms-mean")
	b.ReportMetric(float64(longest.Microseconds())/1000, "ms-longest")
}

// BenchmarkStall is how long Apply of an open takes, alone and while snapshots
// are written all the time: what the longest ones differ by is what snapshots
// cost a client.
func BenchmarkStall(b *testing.B) {
	for _, snapshots := range []bool{false, true} {
		b.Run(fmt.Sprintf("snapshots=%v", snapshots), func(b *testing.B) {
			m := crowd(b, sessions)
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				for snapshots {
					select {
					case <-stop:
						return
					default:
						_ = m.Snapshot()(io.Discard)
					}
				}
			}()
			var all []time.Duration
			i := 0
			for b.Loop() {
				e := seal(b, regions.Stamp{Term: 1, ClockMs: 2_000_000}, opening(i*7919%sessions, uint64(sessions+i)))
				start := time.Now()
				m.Apply(uint64(1_000_000+i), e.stamp, e.commands[0])
				all = append(all, time.Since(start))
				i++
			}
			close(stop)
			<-stopped
			slices.Sort(all)
			for _, q := range []struct {
				name string
				at   int
			}{{"µs-p99", len(all) * 99 / 100}, {"µs-p999", len(all) * 999 / 1000}, {"µs-max", len(all) - 1}} {
				b.ReportMetric(float64(all[q.at].Nanoseconds())/1000, q.name)
			}
		})
	}
}

// BenchmarkMemory reports what 50,000 sessions in two rooms each take.
func BenchmarkMemory(b *testing.B) {
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	for b.Loop() {
		before := heap()
		m := crowd(b, sessions)
		after := heap()
		b.ReportMetric(float64(after-before)/(1<<20), "MiB")
		b.ReportMetric(float64(after-before)/sessions, "B/session")
		runtime.KeepAlive(m)
	}
}
