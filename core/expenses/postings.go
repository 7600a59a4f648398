package expenses

import (
	"cmp"
	"slices"

	"github.com/mustermesh/muster/core/ledger"
)

// Stake is what somebody paid of an expense, or has to bear of it.
type Stake struct {
	Who    ledger.Account
	Amount int64
}

// Settle makes debts of who paid and who bears, which come to the same. First each
// bears what they paid themselves. Of the rest, whoever bears more than they paid
// owes those who paid more, one after the other, both sorted by name (the north-west
// corner rule): so what each is owed or owes is exact, and there is at most one debt
// less than people.
func Settle(paid, borne []Stake) []Transfer {
	net := map[ledger.Account]int64{}
	for _, s := range paid {
		net[s.Who] += s.Amount
	}
	for _, s := range borne {
		net[s.Who] -= s.Amount
	}
	var creditors, debtors []open
	for who, amount := range net {
		switch {
		case amount > 0:
			creditors = append(creditors, open{who, amount})
		case amount < 0:
			debtors = append(debtors, open{who, amount})
		}
	}
	byName := func(a, b open) int { return cmp.Compare(a.who, b.who) }
	slices.SortFunc(creditors, byName)
	slices.SortFunc(debtors, byName)
	var out []Transfer
	for len(creditors) > 0 && len(debtors) > 0 {
		t := between(debtors[0], creditors[0])
		out = append(out, t)
		if debtors[0].amount += t.Amount; debtors[0].amount == 0 {
			debtors = debtors[1:]
		}
		if creditors[0].amount -= t.Amount; creditors[0].amount == 0 {
			creditors = creditors[1:]
		}
	}
	return out
}
