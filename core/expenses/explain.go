package expenses

import (
	"cmp"
	"slices"

	"github.com/mustermesh/muster/core/ledger"
)

// Circle is a debt that goes around: each of its people owes the next, and the last
// one the first, so much more than before. It changes nobody's balance.
type Circle struct {
	People []ledger.Account
	Amount int64 // > 0
	Adds   bool  // to what is explained; else it takes that from it
}

// Circles says why from is to pay another sum to another one than they owe each
// other directly. Debts and transfers leave everybody with the same balance, so what
// lies between them goes around in circles; those that go through the two come to
// exactly the difference: the sum of those that add, less the others.
//
// The shortest are found first, since those are what people understand.
func Circles(debts, transfers []Transfer, from, to ledger.Account) []Circle {
	g := newRing(debts, transfers)
	adds := true
	a, b := from, to
	if g.more[edge{b, a}] > 0 {
		a, b, adds = b, a, false
	}
	var out []Circle
	for g.more[edge{a, b}] > 0 {
		people := g.around(a, b)
		if people == nil { // can't be: the balances are the same
			return nil
		}
		amount := g.take(people)
		out = append(out, Circle{People: people, Amount: amount, Adds: adds})
	}
	return out
}

type edge struct{ from, to ledger.Account }

// ring is by how much more one is to pay another than they owe them, where it is
// more. What comes into somebody goes out, too.
type ring struct {
	more map[edge]int64
	next map[ledger.Account][]ledger.Account // sorted
}

func newRing(debts, transfers []Transfer) *ring {
	diff := map[edge]int64{} // by the smaller name first
	add := func(t Transfer, sign int64) {
		if t.From < t.To {
			diff[edge{t.From, t.To}] += sign * t.Amount
		} else {
			diff[edge{t.To, t.From}] -= sign * t.Amount
		}
	}
	for _, t := range transfers {
		add(t, 1)
	}
	for _, t := range debts {
		add(t, -1)
	}
	g := &ring{more: map[edge]int64{}, next: map[ledger.Account][]ledger.Account{}}
	for e, amount := range diff {
		if amount < 0 {
			e, amount = edge{e.to, e.from}, -amount
		}
		if amount > 0 {
			g.more[e] = amount
			g.next[e.from] = append(g.next[e.from], e.to)
		}
	}
	for _, list := range g.next {
		slices.Sort(list)
	}
	return g
}

// around returns the shortest way from b back to a, with a before it: breadth first,
// smaller names first.
func (g *ring) around(a, b ledger.Account) []ledger.Account {
	before := map[ledger.Account]ledger.Account{b: a}
	for queue := []ledger.Account{b}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		for _, next := range g.next[at] {
			if g.more[edge{at, next}] == 0 {
				continue
			}
			if next == a {
				var way []ledger.Account
				for ; at != a; at = before[at] {
					way = append(way, at)
				}
				way = append(way, a)
				slices.Reverse(way)
				return way
			}
			if _, seen := before[next]; !seen {
				before[next] = at
				queue = append(queue, next)
			}
		}
	}
	return nil
}

// take takes as much as goes around a circle out of the ring.
func (g *ring) take(people []ledger.Account) int64 {
	edges := make([]edge, len(people))
	for i, p := range people {
		edges[i] = edge{p, people[(i+1)%len(people)]}
	}
	narrowest := slices.MinFunc(edges, func(a, b edge) int { return cmp.Compare(g.more[a], g.more[b]) })
	amount := g.more[narrowest]
	for _, e := range edges {
		g.more[e] -= amount
	}
	return amount
}
