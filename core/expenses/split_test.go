package expenses_test

import (
	"fmt"
	"math/big"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/expenses"
)

// people returns so many users, not sorted.
func people(r *rand.Rand, n int) []core.UserID {
	list := make([]core.UserID, n)
	for i := range list {
		for j := range list[i] {
			list[i][j] = byte(r.Uint32())
		}
	}
	return list
}

func seeded(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// rule is a split, and what each has of it as a whole number.
type rule struct {
	mode    expenses.Mode
	parts   []expenses.Part
	weights []int64
}

func randomRule(r *rand.Rand, mode expenses.Mode, amount int64, users []core.UserID) rule {
	out := rule{mode: mode, parts: make([]expenses.Part, len(users)), weights: make([]int64, len(users))}
	divide := func(total int64) { // parts at random, which come to it
		cuts := make([]int64, len(users)-1)
		for i := range cuts {
			cuts[i] = r.Int64N(total + 1)
		}
		cuts = append(cuts, 0, total)
		slices.Sort(cuts)
		for i := range out.weights {
			out.weights[i] = cuts[i+1] - cuts[i]
		}
	}
	few := []int64{1, 2, 3, 10}[r.IntN(4)] // often the same
	for i := range out.weights {
		out.weights[i] = r.Int64N(few + 1)
	}
	out.weights[r.IntN(len(users))] = few
	switch mode {
	case expenses.Equal:
		for i := range out.weights {
			out.weights[i] = 1
		}
	case expenses.Exact:
		divide(amount)
	case expenses.Percent:
		if 1_000_000%len(users) == 0 && r.IntN(2) == 0 {
			for i := range out.weights {
				out.weights[i] = 1_000_000 / int64(len(users))
			}
		} else {
			divide(1_000_000)
		}
	case expenses.Weights:
		for i := range out.weights {
			out.weights[i] = out.weights[i]*10_000 + r.Int64N(4)*2_500
		}
	}
	for i, u := range users {
		out.parts[i].User = u
		switch w := out.weights[i]; mode {
		case expenses.Exact, expenses.Shares:
			out.parts[i].Value = strconv.FormatInt(w, 10)
		case expenses.Percent, expenses.Weights:
			out.parts[i].Value = fmt.Sprintf("%d.%04d", w/10_000, w%10_000)
		}
	}
	return out
}

// oracle looks at all ways to round up or down, and takes those that come to the
// amount and are nearest to what is exact (by the sum of squares). Of several, who
// differs between them is in turn.
func oracle(r rule, amount, turn int64) map[core.UserID]int64 {
	n := len(r.parts)
	index := make([]int, n)
	for i := range index {
		index[i] = i
	}
	slices.SortFunc(index, func(a, b int) int { return slices.Compare(r.parts[a].User[:], r.parts[b].User[:]) })
	var sum int64
	for _, w := range r.weights {
		sum += w
	}
	floor, left := make([]int64, n), amount
	for i, w := range r.weights {
		floor[i] = amount * w / sum
		left -= floor[i]
	}
	nearest := int64(-1)
	var always, ever uint
	for up := range uint(1) << n {
		if bits.OnesCount(up) != int(left) {
			continue
		}
		var far int64
		for i, w := range r.weights {
			off := (floor[i]+int64(up>>i&1))*sum - amount*w
			far += off * off
		}
		switch {
		case nearest < 0 || far < nearest:
			nearest, always, ever = far, up, up
		case far == nearest:
			always, ever = always&up, ever|up
		}
	}
	var inTurn []int
	for _, i := range index {
		if (ever&^always)>>i&1 == 1 {
			inTurn = append(inTurn, i)
		}
	}
	for i := range int(left) - bits.OnesCount(always) {
		always |= 1 << inTurn[(int(turn%int64(len(inTurn)))+i)%len(inTurn)]
	}
	out := map[core.UserID]int64{}
	for i, p := range r.parts {
		out[p.User] = floor[i] + int64(always>>i&1)
	}
	return out
}

func TestSplitAgainstOracle(t *testing.T) {
	r := seeded(t)
	for _, mode := range []expenses.Mode{expenses.Equal, expenses.Exact, expenses.Percent, expenses.Shares, expenses.Weights} {
		t.Run(string(mode), func(t *testing.T) {
			for i := range 3000 {
				amount, turn := r.Int64N(10_001), r.Int64N(1000)
				if i < 200 {
					amount = int64(i % 25)
				}
				rule := randomRule(r, mode, amount, people(r, 1+i%12))
				if mode == expenses.Exact {
					want := map[core.UserID]int64{}
					for j, p := range rule.parts {
						want[p.User] = rule.weights[j]
					}
					check(t, rule, amount, turn, want)
					continue
				}
				check(t, rule, amount, turn, oracle(rule, amount, turn))
			}
		})
	}
}

func check(t *testing.T, rule rule, amount, turn int64, want map[core.UserID]int64) {
	t.Helper()
	cuts, err := expenses.Split(rule.mode, amount, turn, rule.parts)
	require.NoError(t, err, "%d by %v", amount, rule.weights)
	got := map[core.UserID]int64{}
	var sum int64
	for _, c := range cuts {
		got[c.User] = c.Amount
		sum += c.Amount
	}
	require.Equal(t, amount, sum)
	// What people read adds up, too, however many decimals their currency has.
	for _, currency := range []core.Currency{"JPY", "EUR", "KWD", "CLF"} {
		total := new(big.Rat)
		for _, c := range cuts {
			share, ok := new(big.Rat).SetString(core.Money{Amount: c.Amount, Currency: currency}.Decimal())
			require.True(t, ok)
			total.Add(total, share)
		}
		require.Equal(t, core.Money{Amount: amount, Currency: currency}.Decimal(), total.FloatString(currency.Exponent()))
	}
	require.Equal(t, want, got, "%d by %v, turn %d", amount, rule.weights, turn)
}

// Every amount by every number of people, split equally: cents add up, nobody pays
// two more than another, and in turn each pays as much as the others.
func TestEqualSplitsOfAll(t *testing.T) {
	users := people(seeded(t), 12)
	for n := 1; n <= 12; n++ {
		parts := make([]expenses.Part, n)
		for i := range parts {
			parts[i].User = users[i]
		}
		for amount := range int64(10_001) {
			cuts, err := expenses.Split(expenses.Equal, amount, amount, parts)
			require.NoError(t, err)
			sum, low, high := int64(0), cuts[0].Amount, cuts[0].Amount
			for _, c := range cuts {
				sum, low, high = sum+c.Amount, min(low, c.Amount), max(high, c.Amount)
			}
			if sum != amount || high-low > 1 {
				t.Fatalf("%d among %d: %v", amount, n, cuts)
			}
		}
		for _, amount := range []int64{1, 100, 1001, 9999} {
			got := map[core.UserID]int64{}
			for turn := range int64(n) {
				cuts, err := expenses.Split(expenses.Equal, amount, 7+turn, parts)
				require.NoError(t, err)
				for _, c := range cuts {
					got[c.User] += c.Amount
				}
			}
			for _, all := range got {
				require.Equal(t, amount, all, "after %d turns each has paid as much", n)
			}
		}
	}
}

// Largest amounts: nothing overflows on the way.
func TestSplitOfMost(t *testing.T) {
	r := seeded(t)
	users := people(r, 1000)
	parts := make([]expenses.Part, len(users))
	for i, u := range users {
		parts[i] = expenses.Part{User: u, Value: "1000000"}
	}
	for _, mode := range []expenses.Mode{expenses.Shares, expenses.Weights} {
		cuts, err := expenses.Split(mode, core.MaxAmount, 3, parts)
		require.NoError(t, err)
		var sum int64
		for _, c := range cuts {
			sum += c.Amount
		}
		require.EqualValues(t, core.MaxAmount, sum)
	}
}

func TestSplitRefuses(t *testing.T) {
	ana, ben := core.UserID(uuid.New()), core.UserID(uuid.New())
	two := func(a, b string) []expenses.Part { return []expenses.Part{{ana, a}, {ben, b}} }
	for name, c := range map[string]struct {
		mode   expenses.Mode
		amount int64
		parts  []expenses.Part
		says   string
	}{
		"negative amount":         {expenses.Equal, -1, two("", ""), "amount_out_of_range"},
		"amount near 2^63":        {expenses.Equal, 1<<63 - 1, two("", ""), "amount_out_of_range"},
		"a unit beyond the most":  {expenses.Equal, core.MaxAmount + 1, two("", ""), "amount_out_of_range"},
		"nobody":                  {expenses.Equal, 10, nil, "at least one"},
		"too many":                {expenses.Equal, 10, make([]expenses.Part, 1001), "at most 1000"},
		"twice":                   {expenses.Equal, 10, []expenses.Part{{ana, ""}, {ana, ""}}, "twice"},
		"no mode":                 {"", 10, two("", ""), "equal, exact"},
		"unknown mode":            {"halves", 10, two("", ""), "equal, exact"},
		"equal with values":       {expenses.Equal, 10, two("1", "1"), "no values"},
		"exact, too little":       {expenses.Exact, 10, two("5", "4"), "come to 9 instead of 10, which is too little"},
		"exact, too much":         {expenses.Exact, 10, two("5", "6"), "too much"},
		"exact, negative":         {expenses.Exact, 10, two("11", "-1"), "not negative"},
		"exact, near 2^63":        {expenses.Exact, 10, two("9223372036854775807", "9223372036854775807"), "whole number"},
		"exact, part beyond":      {expenses.Exact, 10, two("1000000000000001", "0"), "amount_out_of_range"},
		"exact, none":             {expenses.Exact, 10, two("10", ""), "whole number"},
		"exact, a decimal":        {expenses.Exact, 10, two("5.0", "5"), "whole number"},
		"percent, too little":     {expenses.Percent, 10, two("33.33", "66.66"), "come to 99.99 instead of 100, which is too little"},
		"percent, too much":       {expenses.Percent, 10, two("50", "50.0001"), "100.0001"},
		"percent, negative":       {expenses.Percent, 10, two("101", "-1"), "percentage"},
		"percent, too fine":       {expenses.Percent, 10, two("33.33333", "66.66667"), "4 decimal places"},
		"percent, not a number":   {expenses.Percent, 10, two("NaN", "100"), "percentage"},
		"percent, exponent":       {expenses.Percent, 10, two("1e2", "0"), "percentage"},
		"percent, plus":           {expenses.Percent, 10, two("+50", "50"), "percentage"},
		"shares of nobody":        {expenses.Shares, 10, two("0", "0"), "somebody must have"},
		"shares, negative":        {expenses.Shares, 10, two("2", "-1"), "whole number"},
		"shares, too many":        {expenses.Shares, 10, two("1000001", "1"), "whole number"},
		"weights of nobody":       {expenses.Weights, 10, two("0.0", "0"), "somebody must have"},
		"weights, negative":       {expenses.Weights, 10, two("2.5", "-.5"), "weight"},
		"weights, without digits": {expenses.Weights, 10, two(".", "1"), "weight"},
		"weights, overflow":       {expenses.Weights, 10, two("99999999999999999999", "1"), "weight"},
	} {
		t.Run(name, func(t *testing.T) {
			cuts, err := expenses.Split(c.mode, c.amount, 0, c.parts)
			require.Nil(t, cuts)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func FuzzSplit(f *testing.F) {
	f.Add("percent", int64(100), int64(1), "50", "50.0")
	f.Add("weights", int64(100), int64(1), "0.1", "3")
	f.Fuzz(func(t *testing.T, mode string, amount, turn int64, a, b string) {
		cuts, err := expenses.Split(expenses.Mode(mode), amount, turn&(1<<62-1), []expenses.Part{{core.UserID{1}, a}, {core.UserID{2}, b}})
		if err != nil {
			return
		}
		if cuts[0].Amount < 0 || cuts[1].Amount < 0 || cuts[0].Amount+cuts[1].Amount != amount {
			t.Fatalf("%d: %v", amount, cuts)
		}
	})
}
