package consensus

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/regions"
)

// smallDisk is the real disk until it is full. Then writes fail, some after
// half of them was written, and no file can be made.
type smallDisk struct {
	types.VFS
	full, half, files atomic.Bool
}

func (d *smallDisk) Create(dir, name string, size uint64) (types.WritableFile, error) {
	if d.files.Load() {
		return nil, &os.PathError{Op: "fallocate", Path: name, Err: syscall.ENOSPC}
	}
	f, err := d.VFS.Create(dir, name, size)
	return &smallFile{f, d}, err
}

func (d *smallDisk) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := d.VFS.OpenWriter(dir, name)
	return &smallFile{f, d}, err
}

type smallFile struct {
	types.WritableFile
	disk *smallDisk
}

func (f *smallFile) WriteAt(b []byte, at int64) (n int, err error) {
	if !f.disk.full.Load() {
		return f.WritableFile.WriteAt(b, at)
	}
	if f.disk.half.Load() {
		n, _ = f.WritableFile.WriteAt(b[:len(b)/2], at)
	}
	return n, &os.PathError{Op: "write", Path: "wal", Err: syscall.ENOSPC}
}

// A full disk, as the log on it meets one: the node leaves with that reason,
// the others go on, nothing that was acknowledged is lost, and with room again
// a restart is all that the node needs.
func TestFullDisk(t *testing.T) {
	for _, how := range []string{"write", "half a write", "next file"} {
		for _, who := range []string{"leader", "follower"} {
			t.Run(how+" "+who, func(t *testing.T) {
				disks := map[regions.NodeID]*smallDisk{}
				failed := make(chan error, 3)
				g := newRealGroup(t, 3, func(c *Config) {
					if disks[c.Self] == nil {
						disks[c.Self] = &smallDisk{VFS: fs.New()}
					}
					c.files, c.segment = disks[c.Self], 64<<10
					c.Failed = func(err error) { failed <- err }
				})
				victim := g.leader()
				if who == "follower" {
					victim = g.follower()
				}
				id := victim.cfg.Self
				for i := range uint64(20) {
					require.NoError(t, propose(victim, 1, i, i))
				}
				disk, next := disks[id], uint64(20)
				disk.full.Store(how != "next file")
				disk.half.Store(how == "half a write")
				disk.files.Store(how == "next file")
				other := func() *realNode {
					for _, o := range g.nodes {
						if o != victim {
							return o
						}
					}
					return nil
				}()
				again := func(pad int) { // until it is answered
					for {
						ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
						_, err := other.Propose(ctx, append(put(1, next, next), make([]byte, pad)...))
						cancel()
						if err == nil {
							next++
							return
						}
						require.True(t, errors.Is(err, ErrUnknown) || errors.Is(err, ErrNoLeader), "%v", err)
					}
				}
				if how == "next file" {
					for range 17 { // more than there is room for in one
						again(4 << 10)
					}
				}
				again(0)
				select {
				case err := <-failed:
					if how != "next file" { // of that the log only says that the file is full
						require.ErrorIs(t, err, syscall.ENOSPC)
					}
				case <-time.After(10 * time.Second):
					require.FailNow(t, "it goes on", "%v", victim.Err())
				}
				require.ErrorIs(t, propose(victim, 1, 1000, 1), ErrStopped)
				again(0)

				g.stop(id)
				disk.full.Store(false)
				disk.files.Store(false)
				g.restart(id)
				eventually(t, func() bool { return g.nodes[id].Read(t.Context()) == nil }, "it does not come back")
				require.Equal(t, next, g.nodes[id].machine.count())
				require.Equal(t, next-1, g.nodes[id].machine.get(1))
				require.Empty(t, failed)
			})
		}
	}
}

// The leader stays the leader however much there is to do: for 2 s and with a
// longer heartbeat, since tests share their machine with who knows what, or for
// MUSTER_LOADED_MINUTES as in production.
func TestNoElectionUnderLoad(t *testing.T) {
	long := 2 * time.Second
	change := func(c *Config) { c.Heartbeat = time.Second }
	if m, err := strconv.ParseFloat(os.Getenv("MUSTER_LOADED_MINUTES"), 64); err == nil && m > 0 {
		long, change = time.Duration(m*float64(time.Minute)), nil
	}
	g := newRealGroup(t, 3, change)
	lead, follower := g.leader(), g.follower()
	term := lead.raft.CurrentTerm()
	stop := time.Now().Add(long)
	var work sync.WaitGroup
	var ids, failed atomic.Uint64
	for i := range 64 {
		at := lead
		if i%2 == 0 {
			at = follower
		}
		work.Go(func() {
			for time.Now().Before(stop) {
				if propose(at, byte(i), ids.Add(1), 1) != nil {
					failed.Add(1)
				}
			}
		})
	}
	work.Wait()
	t.Logf("%d commands in %v, %d failed", ids.Load(), long, failed.Load())
	require.Equal(t, term, lead.raft.CurrentTerm(), "an election under load")
	require.True(t, lead.IsLeader())
	require.Zero(t, failed.Load())
}
