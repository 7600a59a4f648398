package expenses_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/expenses"
	"github.com/mustermesh/muster/core/ledger"
)

func randomDebts(r *rand.Rand, people, debts int) (list []expenses.Transfer, balances map[ledger.Account]int64) {
	balances = map[ledger.Account]int64{}
	seen := map[[2]int]bool{}
	for range debts {
		a, b := r.IntN(people), r.IntN(people)
		if a == b || seen[[2]int{a, b}] || seen[[2]int{b, a}] {
			continue
		}
		seen[[2]int{a, b}] = true
		amount := 1 + r.Int64N(10_000)
		list = append(list, expenses.Transfer{From: name(a), To: name(b), Amount: amount})
		balances[name(a)] -= amount
		balances[name(b)] += amount
	}
	return list, balances
}

// owes is what a owes b by a list.
func owes(list []expenses.Transfer, a, b ledger.Account) (sum int64) {
	for _, t := range list {
		switch {
		case t.From == a && t.To == b:
			sum += t.Amount
		case t.From == b && t.To == a:
			sum -= t.Amount
		}
	}
	return sum
}

// What is owed directly and the circles come to what is to be paid, for every pair;
// and a circle is one: everybody in it once, the two beside each other, in the
// direction in which it adds or takes.
func TestCirclesComeToTheDifference(t *testing.T) {
	r := seeded(t)
	for i := range 400 {
		n := 2 + i%9
		debts, balances := randomDebts(r, n, r.IntN(n*n))
		transfers := expenses.Simplify(balances)
		for a := range n {
			for b := range n {
				if a == b {
					continue
				}
				from, to := name(a), name(b)
				sum := owes(debts, from, to)
				for _, c := range expenses.Circles(debts, transfers, from, to) {
					require.Positive(t, c.Amount)
					require.GreaterOrEqual(t, len(c.People), 3)
					seen := map[ledger.Account]int{}
					for i, p := range c.People {
						seen[p] = i
					}
					require.Len(t, seen, len(c.People))
					first, second := from, to
					if c.Adds {
						sum += c.Amount
					} else {
						sum -= c.Amount
						first, second = to, from
					}
					require.Equal(t, second, c.People[(seen[first]+1)%len(c.People)])
				}
				require.Equal(t, owes(transfers, from, to), sum, "%s to %s: debts %v, transfers %v", from, to, debts, transfers)
			}
		}
	}
}

func TestNothingToExplainWithoutSimplifying(t *testing.T) {
	debts, _ := randomDebts(seeded(t), 6, 20)
	for _, d := range debts {
		require.Empty(t, expenses.Circles(debts, debts, d.From, d.To))
	}
}

func BenchmarkCircles50(b *testing.B) {
	debts, balances := randomDebts(rand.New(rand.NewPCG(1, 2)), 50, 2000)
	transfers := expenses.Simplify(balances)
	for b.Loop() {
		expenses.Circles(debts, transfers, transfers[0].From, transfers[0].To)
	}
}
