package peerlink

import (
	"cmp"
	"slices"
	"time"

	"github.com/mustermesh/muster/regions"
)

// Status is one of our events links, for those who operate the mesh.
type Status struct {
	Node        regions.NodeID
	Up          bool
	Incarnation uint64        // of the peer, when up
	RTT         time.Duration // smoothed, when up
	Since       time.Time     // of being up or down
	Queued      int           // bytes
	Downs       int           // since the start
}

// Status returns our events links, by node.
func (l *Links) Status() []Status {
	l.mu.RLock()
	var links []*eventsLink
	for _, out := range l.peers {
		if out.events != nil {
			links = append(links, out.events)
		}
	}
	l.mu.RUnlock()
	status := make([]Status, 0, len(links))
	for _, e := range links {
		status = append(status, e.status())
	}
	slices.SortFunc(status, func(a, b Status) int { return cmp.Compare(a.Node, b.Node) })
	return status
}

func (e *eventsLink) status() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Status{Node: e.node, Since: e.since, Queued: e.bytesHeld, Downs: e.downs}
	if e.up != nil {
		s.Up, s.Incarnation = true, e.up.peer.Incarnation
		s.RTT = e.up.ConnectionStats().SmoothedRTT
	}
	return s
}
