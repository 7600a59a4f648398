package node

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mustermesh/muster/core"
	corecalls "github.com/mustermesh/muster/core/calls"
	"github.com/mustermesh/muster/core/chat"
	"github.com/mustermesh/muster/core/groups"
	"github.com/mustermesh/muster/core/jobs"
	"github.com/mustermesh/muster/internal/run"
	"github.com/mustermesh/muster/media/sfu"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/turn"
	"github.com/mustermesh/muster/turn/cred"
)

// MediaConfig has a node be an SFU.
type MediaConfig struct {
	sfu.Options
	Capacity uint32 // its share of its region's calls, beside the others'; default 100
}

// conversing is all that a node has for calls: the records in SQL, its SFU, its relay,
// and what clients are told of relays.
type conversing struct {
	store  *corecalls.Store
	sfu    *sfu.Server  // nil: this node is none
	relay  *turn.Server // nil: nor this
	relays *relays
	rt     *Realtime
	others *tell
}

// callsConfig is what newConversing needs of its node.
type callsConfig struct {
	region regions.RegionID
	groups *groups.Store
	talks  *chat.Conversations
	told   *notifications
	others *tell
	work   *work
}

func newConversing(cfg *Config, c callsConfig) (*conversing, error) {
	x := &conversing{others: c.others}
	x.store = corecalls.New(cfg.DB, callRooms{c.groups, c.talks}, corecalls.Config{
		Node:    string(cfg.ID),
		Changed: func(ctx context.Context, call corecalls.Call) { x.rt.calls.changed(ctx, x.others, call.ID.String()) },
		Notify:  missedCalls{c.told},
	})
	c.work.Schedule(jobs.Schedule{
		Name: "end_calls", Every: corecalls.DueEvery, Late: jobs.LateOnce, Timeout: 10 * time.Minute,
		Do: func(ctx context.Context, _ jobs.Work) error { return x.store.EndDue(ctx) },
	})
	secrets := cfg.TURNSecrets
	var err error
	if len(secrets) == 0 {
		if secrets, err = turnSecrets(cfg.Secret); err != nil {
			return nil, err
		}
	}
	if err := secrets.Validate(); err != nil {
		return nil, err
	}
	x.relays = &relays{region: c.region, directory: cfg.Directory, secrets: secrets, standing: func(r regions.RegionID) regions.Standing { return x.rt.standingOf(r) }}
	if cfg.Media != nil {
		o := cfg.Media.Options
		o.Log = cfg.Log
		if x.sfu, err = sfu.New(o); err != nil {
			return nil, err
		}
		if err = registerSFU(cfg.Metrics, x.sfu); err != nil {
			return nil, err
		}
	}
	if cfg.TURN != nil {
		o := *cfg.TURN
		o.Realm, o.Secrets, o.Log, o.Metrics = TURNRealm, secrets, cfg.Log, cfg.Metrics
		if x.relay, err = turn.New(o); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// config is what the realtime side is made of.
func (x *conversing) config(cfg *Config, region regions.RegionID) *CallsConfig {
	c := &CallsConfig{ICE: x.relays.wire, Book: callBook{store: x.store, self: region, known: func(r regions.RegionID) bool {
		_, ok := cfg.Directory.Region(r)
		return ok
	}}}
	if x.sfu != nil {
		c.SFU, c.Capacity = x.sfu, cfg.Media.Capacity
	}
	return c
}

// add adds what listens to a node's group, before the realtime side.
func (x *conversing) add(g *run.Group) {
	if x.sfu != nil {
		g.Add("sfu", x.sfu)
	}
	if x.relay != nil {
		g.Add("turn", x.relay)
	}
}

// drainCalls is how long participants of calls, and clients of the relay, may stay when
// all other clients have gone: a participant who is not connected elsewhere by then will
// be by itself.
const drainCalls = 15 * time.Second

// drain returns when nobody is in a call here any more, nor uses the relay, or ctx ends.
func (x *conversing) drain(ctx context.Context) {
	var both sync.WaitGroup
	defer both.Wait()
	if x.relay != nil {
		both.Go(func() {
			_ = x.relay.Drain(ctx) // who is left is cut off
		})
	}
	for !x.rt.draining() && x.rt.Cluster.Err() == nil { // until the region knows: then calls get other places
		select {
		case <-ctx.Done():
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
	_ = x.rt.calls.host.Drain(ctx)
}

// kill has packets of calls come and go no more, as if the process had ended.
func (x *conversing) kill() {
	if x.sfu != nil {
		x.sfu.Stop()
	}
	if x.relay != nil {
		x.relay.Stop()
	}
}

// ICEServers are those of a user (GET /api/v1/turn).
func (x *conversing) ICEServers(user core.UserID) []cred.ICEServer {
	return x.relays.ICEServers(user.String())
}

// registerSFU shows what an SFU counts. reg may be nil.
func registerSFU(reg prometheus.Registerer, s *sfu.Server) error {
	if reg == nil {
		return nil
	}
	var all []error
	gauge := func(name, help string, f func(sfu.Stats) int) {
		all = append(all, reg.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(f(s.Stats())) })))
	}
	counter := func(name, help string, f func(sfu.Stats) uint64) {
		all = append(all, reg.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(f(s.Stats())) })))
	}
	gauge("muster_media_peers", "Participants that have a place at the SFU.", func(s sfu.Stats) int { return s.Peers })
	gauge("muster_media_tracks", "Tracks that the SFU has, of participants and of other nodes.", func(s sfu.Stats) int { return s.Sources })
	gauge("muster_media_subscriptions", "Tracks that participants get.", func(s sfu.Stats) int { return s.Subscriptions })
	counter("muster_media_received_packets_total", "RTP packets of participants.", func(s sfu.Stats) uint64 { return s.PacketsIn })
	counter("muster_media_forwarded_packets_total", "RTP packets to participants.", func(s sfu.Stats) uint64 { return s.PacketsForwarded })
	counter("muster_media_received_bytes_total", "Bytes of UDP payloads of participants.", func(s sfu.Stats) uint64 { return s.BytesIn })
	counter("muster_media_sent_bytes_total", "Bytes of UDP payloads to participants.", func(s sfu.Stats) uint64 { return s.BytesOut })
	counter("muster_media_repaired_packets_total", "RTP packets that participants asked for again and got.", func(s sfu.Stats) uint64 { return s.Repeated })
	counter("muster_media_socket_dropped_total", "Packets that a full socket did not take.", func(s sfu.Stats) uint64 { return s.Dropped })
	counter("muster_media_refused_total", "Datagrams and packets that made no sense, or had wrong keys.", func(s sfu.Stats) uint64 { return s.Refused })
	counter("muster_media_limited_total", "Packets above a participant's rate.", func(s sfu.Stats) uint64 { return s.Limited })
	counter("muster_media_key_frames_asked_total", "Key frames that were asked of participants.", func(s sfu.Stats) uint64 { return s.KeyFramesAsked })
	return errors.Join(all...)
}
