package peerlink

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// BenchmarkFrames sends frames of 200 bytes from one node to another in the
// same process; frames/cpu-s counts the CPU time of both ends together.
func BenchmarkFrames(b *testing.B) {
	for _, size := range []int{200, 2000} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			m := newMesh(b, nil)
			from, to := m.start("a-1", 1), m.start("b-1", 1)
			var got atomic.Int64
			to.onFrame = func(Peer, []byte) { got.Add(1) }
			frame := make([]byte, size)
			if err := from.Send("b-1", frame); err != nil {
				b.Fatal(err)
			}
			eventually(b, func() bool { return got.Load() == 1 }, "link does not come up")
			b.ReportAllocs()
			b.ResetTimer()
			before := cpu()
			for range b.N {
				for from.links("b-1") > 4<<20 { // closed loop: half the queue
					time.Sleep(100 * time.Microsecond)
				}
				if err := from.Send("b-1", frame); err != nil {
					b.Fatal(err)
				}
			}
			for got.Load() < int64(b.N)+1 {
				time.Sleep(100 * time.Microsecond)
			}
			b.ReportMetric(float64(b.N)/(cpu()-before).Seconds(), "frames/cpu-s")
			b.SetBytes(int64(size))
		})
	}
}

// BenchmarkCall measures a call, there and back.
func BenchmarkCall(b *testing.B) {
	m := newMesh(b, nil)
	from, to := m.start("a-1", 1), m.open("b-1", 1)
	to.onCall = echoCall
	if err := to.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	frame := make([]byte, 200)
	for b.Loop() {
		if _, err := from.Call(b.Context(), "b-1", frame); err != nil {
			b.Fatal(err)
		}
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
