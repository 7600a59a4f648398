package expenses

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/mustermesh/muster/core/ledger"
)

// Transfer is what one is to pay another.
type Transfer struct {
	From, To ledger.Account
	Amount   int64
}

// exactUpTo is for how many people with open balances the fewest transfers are
// found for certain: the sets of them are 2^16, and take some milliseconds.
const exactUpTo = 16

// open is somebody whose balance isn't zero.
type open struct {
	who    ledger.Account
	amount int64 // > 0: is owed
}

// Simplify returns the fewest transfers that settle balances of one currency, which
// come to zero; the same for the same balances, sorted by who pays and who gets.
//
// People whose balances come to zero among themselves need one transfer less than
// they are, so the fewest are needed when they fall into as many such sets as they
// can. Two who owe exactly what the other is owed always may be one: if they are in
// two sets of some best solution, what is left of both is a set, too. Of who is left
// up to 16 are divided by looking at all sets of them. Of more, the one who owes
// most pays the one who is owed most, until they are 16.
func Simplify(balances map[ledger.Account]int64) []Transfer {
	var list []open
	for who, amount := range balances {
		if amount != 0 {
			list = append(list, open{who, amount})
		}
	}
	var out []Transfer
	for {
		if list, out = exactPairs(list, out); len(list) <= exactUpTo {
			break
		}
		list, out = payMost(list, out)
	}
	for _, set := range zeroSets(list) {
		for len(set) > 0 {
			set, out = payMost(set, out)
		}
	}
	slices.SortFunc(out, func(a, b Transfer) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To)) })
	return out
}

// exactPairs settles those who owe exactly what another is owed. The rest is sorted
// by id.
func exactPairs(list []open, out []Transfer) ([]open, []Transfer) {
	slices.SortFunc(list, func(a, b open) int { return cmp.Compare(a.who, b.who) })
	waiting := map[int64][]open{} // by balance
	for _, o := range list {
		if others := waiting[-o.amount]; len(others) > 0 {
			out = append(out, between(o, others[0]))
			waiting[-o.amount] = others[1:]
			continue
		}
		waiting[o.amount] = append(waiting[o.amount], o)
	}
	var rest []open
	for _, l := range waiting {
		rest = append(rest, l...)
	}
	slices.SortFunc(rest, func(a, b open) int { return cmp.Compare(a.who, b.who) })
	return rest, out
}

// between settles the smaller of two opposite balances.
func between(a, b open) Transfer {
	if a.amount > 0 {
		a, b = b, a
	}
	return Transfer{From: a.who, To: b.who, Amount: min(-a.amount, b.amount)}
}

// payMost has the one who owes most pay the one who is owed most.
func payMost(list []open, out []Transfer) ([]open, []Transfer) {
	least, most := 0, 0
	for i, o := range list { // of the same amount the first by id
		if o.amount < list[least].amount {
			least = i
		}
		if o.amount > list[most].amount {
			most = i
		}
	}
	t := between(list[least], list[most])
	list[least].amount += t.Amount
	list[most].amount -= t.Amount
	return slices.DeleteFunc(list, func(o open) bool { return o.amount == 0 }), append(out, t)
}

// zeroSets divides people whose balances come to zero into as many sets that do so
// as there can be.
//
// For each set s of people, most[s] is how many sets that come to zero can be closed
// while its people are put into a line one after the other: that of the best s
// without one, and one more if s comes to zero itself.
func zeroSets(list []open) [][]open {
	n := len(list)
	if n == 0 {
		return nil
	}
	sum, most := make([]int64, 1<<n), make([]int8, 1<<n)
	for s := 1; s < 1<<n; s++ {
		low := bits.TrailingZeros(uint(s))
		sum[s] = sum[s&(s-1)] + list[low].amount
		for r := s; r != 0; r &= r - 1 {
			most[s] = max(most[s], most[s&^(r&-r)])
		}
		if sum[s] == 0 {
			most[s]++
		}
	}
	var sets [][]open
	var set []open
	for s := 1<<n - 1; s != 0; {
		if sum[s] == 0 && set != nil {
			sets, set = append(sets, set), nil
		}
		want := most[s]
		if sum[s] == 0 {
			want--
		}
		for r := s; ; r &= r - 1 {
			if without := s &^ (r & -r); most[without] == want {
				set = append(set, list[bits.TrailingZeros(uint(r))])
				s = without
				break
			}
		}
	}
	sets = append(sets, set)
	for _, set := range sets {
		slices.SortFunc(set, func(a, b open) int { return cmp.Compare(a.who, b.who) })
	}
	return sets
}
