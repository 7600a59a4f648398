package expenses_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/expenses"
	"github.com/mustermesh/muster/core/ledger"
)

func name(i int) ledger.Account { return ledger.Account(fmt.Sprintf("p%02d", i)) }

// randomBalances come to zero; small ones, so that some of them do so apart.
func randomBalances(r *rand.Rand, n int, most int64) map[ledger.Account]int64 {
	out := map[ledger.Account]int64{}
	var sum int64
	for i := range n - 1 {
		b := r.Int64N(2*most+1) - most
		out[name(i)] = b
		sum += b
	}
	out[name(n-1)] = -sum
	return out
}

// mostSets tries all ways to divide balances into sets that come to zero: each
// goes into one of the sets so far, or begins one.
func mostSets(balances []int64, sets []int64) int {
	if len(balances) == 0 {
		for _, s := range sets {
			if s != 0 {
				return -1
			}
		}
		return len(sets)
	}
	best := -1
	for i := range sets {
		sets[i] += balances[0]
		best = max(best, mostSets(balances[1:], sets))
		sets[i] -= balances[0]
	}
	return max(best, mostSets(balances[1:], append(sets[:len(sets):len(sets)], balances[0])))
}

func settles(t *testing.T, balances map[ledger.Account]int64, transfers []expenses.Transfer) {
	t.Helper()
	left := map[ledger.Account]int64{}
	for who, b := range balances {
		left[who] = b
	}
	for _, tr := range transfers {
		require.Positive(t, tr.Amount)
		require.Negative(t, balances[tr.From], "only who owes pays")
		require.Positive(t, balances[tr.To], "only who is owed gets")
		left[tr.From] += tr.Amount
		left[tr.To] -= tr.Amount
	}
	for who, b := range left {
		require.Zero(t, b, "%s of %v after %v", who, balances, transfers)
	}
}

func TestFewestTransfers(t *testing.T) {
	r := seeded(t)
	for i := range 1500 {
		balances := randomBalances(r, 1+i%8, 1+r.Int64N(12))
		var open []int64
		for _, b := range balances {
			if b != 0 {
				open = append(open, b)
			}
		}
		got := expenses.Simplify(balances)
		settles(t, balances, got)
		require.Len(t, got, len(open)-max(mostSets(open, nil), 0), "%v: %v", balances, got)
		require.Equal(t, got, expenses.Simplify(balances), "the same each time, in whatever order a map comes")
	}
}

func TestTransfersOfMany(t *testing.T) {
	r := seeded(t)
	for _, n := range []int{14, 16, 17, 18, 30, 50, 200} {
		for range 5 {
			balances := randomBalances(r, n, 1000)
			got := expenses.Simplify(balances)
			settles(t, balances, got)
			require.Less(t, len(got), n)
			require.Equal(t, got, expenses.Simplify(balances))
		}
	}
}

func TestExactPairsOfMany(t *testing.T) {
	balances := map[ledger.Account]int64{}
	for i := range 50 {
		balances[name(2*i)], balances[name(2*i+1)] = int64(i+1), -int64(i+1)
	}
	require.Len(t, expenses.Simplify(balances), 50)
}

func TestSettle(t *testing.T) {
	r := seeded(t)
	for range 2000 {
		n := 1 + r.IntN(8)
		net := map[ledger.Account]int64{}
		var paid, borne []expenses.Stake
		var total int64
		for i := range n {
			p := r.Int64N(50)
			paid = append(paid, expenses.Stake{Who: name(r.IntN(n)), Amount: p})
			net[paid[i].Who] += p
			total += p
		}
		for i := range n {
			b := r.Int64N(total + 1)
			if i == n-1 {
				b = total
			}
			total -= b
			borne = append(borne, expenses.Stake{Who: name(i), Amount: b})
			net[name(i)] -= b
		}
		debts := expenses.Settle(paid, borne)
		require.Less(t, len(debts), n)
		settles(t, net, debts)
	}
}

func BenchmarkSimplify16(b *testing.B) {
	balances := randomBalances(rand.New(rand.NewPCG(1, 2)), 16, 1_000_000)
	for b.Loop() {
		expenses.Simplify(balances)
	}
}
