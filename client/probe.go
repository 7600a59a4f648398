package client

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

const (
	probeEvery  = 4 * time.Minute // half to one and a half of it
	probeSoon   = 5 * time.Second // between rounds after the network has changed
	soonRounds  = 2 * steadily    // of those, at most: until as many in a row as it takes say the same
	probeOthers = 3               // regions besides one's own
	probeTimes  = 3               // of which the best counts
	probeWait   = 3 * time.Second // for one answer
	// fullLoad is the load at which regions begin to turn clients away: nobody
	// moves to such a region because it is near.
	fullLoad = 0.85
)

// settleDown times the regions now and then, and wishes for another one when it
// is the better home.
func (s *Session) settleDown(ctx context.Context) {
	hurried := 0 // rounds that may be due soon
	for {
		wait := probeEvery/2 + rand.N(probeEvery)
		if hurried > 0 {
			wait = probeSoon
			hurried--
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-s.shaken:
			timer.Stop()
			s.http.CloseIdleConnections()
			hurried = soonRounds - 1
			s.mu.Lock()
			s.homing.forget()
			s.mu.Unlock()
		case <-ctx.Done():
			timer.Stop()
			return
		}
		here, bases := s.probed()
		if len(bases) < 2 {
			continue
		}
		rtts := s.measure(ctx, bases)
		s.mu.Lock()
		if s.conn != nil && s.conn.region == here {
			s.wish = s.homing.round(time.Now(), here, rtts)
			if s.homing.settled() {
				hurried = 0
			}
			s.poke()
		}
		s.mu.Unlock()
	}
}

// probed lists what to time: a node of the session's own region and of the first
// others of the list.
func (s *Session) probed() (here string, bases map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil || s.background || s.conn.pulse.doubt != trusted {
		return "", nil
	}
	here, bases = s.conn.region, map[string]string{}
	others := 0
	for _, r := range s.edge.Regions {
		own := r.Name == here
		if !own && (unwell(r.State) || r.Load >= fullLoad || others == probeOthers) {
			continue
		}
		for _, n := range r.Nodes {
			if n.HTTP != "" && (own && n.ID == s.conn.node || bases[r.Name] == "" && (own || !unwell(n.State))) {
				bases[r.Name] = n.HTTP
			}
		}
		if !own && bases[r.Name] != "" {
			others++
		}
	}
	return here, bases
}

// measure times one node of each region, all beside each other. Who does not
// answer is left out.
func (s *Session) measure(ctx context.Context, bases map[string]string) map[string]time.Duration {
	var (
		mu   sync.Mutex
		rtts = map[string]time.Duration{}
		all  sync.WaitGroup
	)
	for region, base := range bases {
		all.Go(func() {
			var best time.Duration
			for i := range 1 + probeTimes {
				asking, cancel := context.WithTimeout(ctx, probeWait)
				began := time.Now()
				_, err := s.get(asking, base+pathProbe)
				took := time.Since(began)
				cancel()
				if err != nil {
					return
				}
				if i > 0 && (best == 0 || took < best) { // the first one opens the connection
					best = took
				}
			}
			mu.Lock()
			defer mu.Unlock()
			rtts[region] = best
		})
	}
	all.Wait()
	return rtts
}

// timing makes the client that regions are timed with.
func (d *Dialer) timing() *http.Client {
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 1, IdleConnTimeout: 10 * time.Second}
	if d.TLS != nil {
		t.TLSClientConfig = d.TLS.Clone()
	}
	return &http.Client{Transport: t}
}
