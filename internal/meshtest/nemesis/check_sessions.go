package nemesis

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mustermesh/muster/api/wire"
)

// opening is a connection that was welcomed, or asked to be.
type opening struct {
	run          *Run
	key          Key
	conn         int
	node, region string
	epoch        uint64 // 0: never welcomed, as far as the client knows
	said, heard  time.Duration
	end          time.Duration // of the connection; forever if it is still there
	follows      map[string]bool
	joined       map[string]time.Duration // when it was first in a room
	wantsOut     map[string]bool          // it left the room
	bye          bool
}

// regionOf goes by the name, since who was not welcomed was not told.
func regionOf(node string) string { return node[:max(0, strings.LastIndex(node, "-"))] }

const forever = time.Duration(1<<63 - 1)

// openings are the connections of all runs, by device in order of epochs.
func openings(h *History) map[Key][]*opening {
	out := map[Key][]*opening{}
	for _, r := range h.Runs {
		byConn := map[int]*opening{}
		asked := map[[2]uint64]string{} // (connection, request) -> room that is left
		for _, s := range r.Sights {
			o := byConn[s.Conn]
			if o == nil {
				o = &opening{
					run: r, key: r.Key, conn: s.Conn, node: s.Node, end: forever,
					follows: map[string]bool{}, joined: map[string]time.Duration{}, wantsOut: map[string]bool{},
				}
				byConn[s.Conn] = o
				out[r.Key] = append(out[r.Key], o)
			}
			switch {
			case s.End != nil:
				o.end = s.At
			case s.Out != nil:
				switch b := s.Out.Body.(type) {
				case *wire.ClientFrame_Hello:
					o.said = s.At
					for _, f := range b.Hello.GetFollows() {
						o.follows[f.GetRoom()] = true
					}
				case *wire.ClientFrame_Leave:
					o.wantsOut[b.Leave.GetRoom()] = true
					asked[[2]uint64{uint64(s.Conn), s.Out.GetId()}] = b.Leave.GetRoom()
				case *wire.ClientFrame_Bye:
					o.bye = true
				}
			case s.In != nil:
				switch b := s.In.Body.(type) {
				case *wire.ServerFrame_Welcome:
					o.epoch, o.region, o.heard = b.Welcome.GetEpoch(), b.Welcome.GetRegion(), s.At
				case *wire.ServerFrame_Snapshot:
					if _, known := o.joined[b.Snapshot.GetRoom()]; !known {
						o.joined[b.Snapshot.GetRoom()] = s.At
					}
				}
			}
		}
	}
	for _, os := range out {
		slices.SortStableFunc(os, func(a, b *opening) int { return cmp.Compare(a.epoch, b.epoch) })
	}
	return out
}

func (o *opening) String() string {
	end := "still there"
	if o.end != forever {
		end = "ended " + seconds(o.end)
	}
	return fmt.Sprintf("%s run %d connection %d: hello %s to %s, welcomed %s under epoch %d, %s",
		o.key, o.run.ID, o.conn, seconds(o.said), o.node, seconds(o.heard), o.epoch, end)
}

func (k Key) String() string { return k.Device }

func seconds(d time.Duration) string { return fmt.Sprintf("%.3fs", d.Seconds()) }

func epochs(h *History) (out []Violation) {
	for _, os := range openings(h) {
		for i, b := range os {
			for _, a := range os[:i] {
				if a.epoch == 0 || a.region != b.region {
					continue
				}
				switch {
				case a.epoch == b.epoch:
					out = append(out, Violation{What: "one epoch twice", History: []string{a.String(), b.String()}})
				case b.heard < a.said:
					out = append(out, Violation{What: "a later session has a lower epoch", History: []string{a.String(), b.String()}})
				}
			}
		}
	}
	return out
}
