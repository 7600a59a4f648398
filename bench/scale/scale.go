// Package scale says what a mesh of many regions costs, by drawing a population
// of rooms and counting. Nothing runs: no socket, no clock. The sizes of frames
// are those of real ones, encoded here; what else is known of a unit's cost was
// measured, and Costs says where.
//
// The population is skewed as people are: regions differ in size by Zipf's law,
// a group lives mostly where it was made, and its others are where people are.
package scale

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Config is a population and what it does.
type Config struct {
	Sessions int // live at once
	Regions  int
	Nodes    int    // per region at least: 3 or 5
	Seed     uint64 // makes it repeatable

	PerSession float64 // rooms that a session is in, on average
	GroupSize  float64 // members of a room that are live, on average; sizes are log-normal
	Local      float64 // share of a group's members who are in its own region
	Skew       float64 // of the regions' sizes: Zipf's exponent

	Moving   float64 // share of the sessions that move, each once a second
	Messages float64 // per session and hour
	Visits   float64 // rooms that a session enters and leaves, per hour

	Costs Costs
}

// Costs of one unit, as measured; see docs/scale.md.
type Costs struct {
	Session  float64 // bytes of memory at its node
	Capacity int     // sessions that a node takes
	Room     float64 // bytes of memory of a room in a region that nobody is in it
	Follow   float64 // bytes more for each region that a room follows
	Member   float64 // bytes of memory of a member in a room, at each owner that knows it
	Link     float64 // bytes of memory of the connections between two nodes
	Idle     float64 // bytes per second between two nodes of different regions, both ways together
}

// Defaults are the figures that docs/scale.md is written with.
func Defaults() Config {
	return Config{
		Sessions: 1_000_000, Regions: 10, Nodes: 3, Seed: 1,
		PerSession: 3, GroupSize: 8, Local: 0.85, Skew: 0.8,
		Moving: 0.05, Messages: 6, Visits: 12,
		Costs: Measured,
	}
}

// Measured are the costs that were measured.
var Measured = Costs{Session: 18.5 * 1024, Capacity: 50_000, Room: 1770, Follow: 218, Member: 860, Link: 150 << 10, Idle: 300}

// Result is what the population costs.
type Result struct {
	Regions, Nodes, Sessions int

	Rooms    int     // with somebody in them
	Wide     int     // of those, with members in more than one region
	Spread   float64 // regions that a room has members in, on average
	Biggest  float64 // share of the sessions in the biggest region
	PerNode  int     // sessions
	Standing int     // bytes of the frames that tell how a region stands
	Slots    int     // and who owns its slots

	Built, Needed, Home Interest

	// Copies of updates, per second, that cross to other regions.
	Updates float64 // made
	Copies  float64 // one per region that has members
	Naive   float64 // one per receiver elsewhere
	Payload float64 // bytes per second of the copies, all links together
	Receive float64 // of those, at the region that gets most
	Busiest float64 // on the busiest link, one way

	Links       int     // pairs of nodes of different regions
	LinksOfNode int     // other nodes that a node has links with
	LinkMemory  float64 // bytes at a node
	Idle        float64 // bytes per second, all links together
	IdleOfNode  float64
	Gossip      float64 // bytes per second of standings and slots, all together
	GossipNode  float64 // that a node receives
	GossipLead  float64 // that a region's leader sends
	Digest      float64 // bytes that a region pair exchanges after a cut in which nothing happened
	SessionsMem float64 // bytes at a node
}

// Interest is who follows whom.
type Interest struct {
	Entries float64 // (room, region that follows, region that is followed), all together
	Rooms   float64 // that a region holds, on average
	Memory  float64 // bytes at a node, on average
	Churn   float64 // frames per second, all together, as people come and go
	Bytes   float64 // per second of those, all together
}

// Run draws the population and counts.
func Run(c Config) (*Result, error) {
	if c.Sessions < 1 || c.Regions < 2 || c.Regions > 1000 || c.Nodes < 1 || c.GroupSize < 1 || c.PerSession <= 0 || c.Local < 0 || c.Local > 1 {
		return nil, errors.New("scale: sessions, 2 to 1,000 regions, nodes, rooms per session and members per room are needed")
	}
	rng := rand.New(rand.NewPCG(c.Seed, 0x5ca1e))
	size := sizes(c)
	weights := zipf(c.Regions, c.Skew)
	r := &Result{Regions: c.Regions, Sessions: c.Sessions, Biggest: weights[0], Standing: size.standing, Slots: size.slots}
	for _, w := range weights {
		r.Nodes += max(c.Nodes, int(math.Ceil(w*float64(c.Sessions)/float64(c.Costs.Capacity))))
	}
	r.PerNode = c.Sessions / r.Nodes
	pick := picker(rng, weights)

	others := float64(c.Regions - 1)
	flow := make([]float64, c.Regions*c.Regions) // bytes per second
	held := make([]float64, c.Regions)           // members known to a region's owners
	// What one member of a room does there, per second. A fix goes to all rooms.
	fixes, messages, visits := c.Moving, c.Messages/3600/c.PerSession, 2*c.Visits/3600/c.PerSession
	bytes := fixes*size.fix + messages*size.message + visits*size.presence
	updates := fixes + messages + visits

	var spread, copies, naive, built, needed float64
	var alone float64 // members that are the only one of their region in a room
	in := make([]int, c.Regions)
	var there []int
	for stays := float64(c.Sessions) * c.PerSession; stays > 0; {
		n := groupSize(rng, c.GroupSize)
		stays -= float64(n)
		r.Rooms++
		there = there[:0]
		home := pick()
		for range n {
			region := home
			if rng.Float64() >= c.Local {
				region = pick()
			}
			if in[region] == 0 {
				there = append(there, region)
			}
			in[region]++
		}
		k := float64(len(there))
		spread += k
		if len(there) > 1 {
			r.Wide++
		}
		built += k * others
		needed += k * (k - 1)
		for _, a := range there {
			held[a] += float64(n)
			if in[a] == 1 {
				alone++
			}
			copies += float64(in[a]) * (k - 1) * updates
			naive += float64(in[a]) * float64(n-in[a]) * updates
			for _, b := range there {
				if a != b {
					flow[a*c.Regions+b] += float64(in[a]) * bytes
				}
			}
		}
		for _, a := range there {
			in[a] = 0
		}
		r.Updates += float64(n) * updates
	}
	rooms := float64(r.Rooms)
	r.Spread = spread / rooms
	r.Copies, r.Naive = copies, naive
	received := make([]float64, c.Regions)
	for i, f := range flow {
		r.Payload += f
		r.Busiest = max(r.Busiest, f)
		received[i%c.Regions] += f
	}
	r.Receive = slices.Max(received)

	// Who is alone in a room begins to follow it when coming and ends when going:
	// both ask each other region that is to be asked, and are answered.
	turns := alone * visits
	nodes := float64(r.Nodes)
	perRegion := nodes / float64(c.Regions)
	members := 0.0
	for _, m := range held {
		members += m
	}
	cost := func(entries, inEach, asked float64) Interest {
		frames := turns * asked * 1.5 // coming is a question and an answer, going only one frame
		return Interest{
			Entries: entries, Rooms: inEach, Churn: frames, Bytes: frames * size.subscribe,
			Memory: (inEach*c.Costs.Room + (entries*c.Costs.Follow+members*c.Costs.Member)/float64(c.Regions)) / perRegion,
		}
	}
	// As it is built, a region that has members asks all others, and each of them
	// holds the room from then on.
	r.Built = cost(built, rooms, others)
	// At the least, those with members follow each other.
	r.Needed = cost(needed, spread/float64(c.Regions), math.Max(r.Spread-1, 0))
	// If a room's home region keeps the list of those that have members, and tells
	// them of each other: each asks only there, and is told of the others.
	r.Home = cost(needed+spread, (spread+rooms)/float64(c.Regions), 1+math.Max(r.Spread-1, 0))

	r.LinksOfNode = r.Nodes - int(math.Round(perRegion))
	r.Links = r.Nodes * r.LinksOfNode / 2
	r.LinkMemory = float64(r.LinksOfNode) * c.Costs.Link
	r.Idle = float64(r.Links) * c.Costs.Idle
	r.IdleOfNode = float64(r.LinksOfNode) * c.Costs.Idle
	perSecond := float64(size.standing) + float64(size.slots)/5
	r.GossipLead = float64(r.LinksOfNode) * perSecond
	r.Gossip = r.GossipLead * float64(c.Regions)
	r.GossipNode = others * perSecond
	r.Digest = float64(size.digest)
	r.SessionsMem = float64(r.PerNode) * c.Costs.Session
	return r, nil
}

// zipf are the regions' shares of the people, the biggest first.
func zipf(n int, s float64) []float64 {
	w := make([]float64, n)
	sum := 0.0
	for i := range w {
		w[i] = 1 / math.Pow(float64(i+1), s)
		sum += w[i]
	}
	for i := range w {
		w[i] /= sum
	}
	return w
}

// picker draws regions by their weights.
func picker(rng *rand.Rand, weights []float64) func() int {
	up := make([]float64, len(weights))
	sum := 0.0
	for i, w := range weights {
		sum += w
		up[i] = sum
	}
	return func() int {
		i, _ := slices.BinarySearch(up, rng.Float64())
		return min(i, len(up)-1)
	}
}

// groupSize draws how many of a room are live: log-normal with a long tail, at
// most 500.
func groupSize(rng *rand.Rand, mean float64) int {
	const sigma = 0.9
	n := math.Exp(math.Log(mean) - sigma*sigma/2 + sigma*rng.NormFloat64())
	return min(500, max(1, int(math.Round(n))))
}

// Human writes a number as people say it.
func Human(v float64) string {
	for _, u := range []struct {
		of   float64
		name string
	}{{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if v >= u.of {
			return fmt.Sprintf("%.3g %s", v/u.of, u.name)
		}
	}
	return fmt.Sprintf("%.3g ", v)
}
