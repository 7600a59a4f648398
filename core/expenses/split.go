package expenses

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/internal/errs"
)

// Mode is a rule by which an expense is split.
type Mode string

// The modes.
const (
	Equal   Mode = "equal"
	Exact   Mode = "exact"   // amounts in minor units, which add up to the expense's
	Percent Mode = "percent" // up to four decimal places, which add up to 100
	Shares  Mode = "shares"  // whole numbers: two for a couple
	Weights Mode = "weights" // decimals: 2.5 nights
)

// Part is one member's in a rule.
type Part struct {
	User  core.UserID
	Value string // as the mode wants it; empty for Equal
}

// Cut is what one member has to bear.
type Cut struct {
	User   core.UserID
	Amount int64
}

const (
	// MaxParts is among how many people an expense is split at most.
	MaxParts = 1000
	// decimals of a percentage or a weight
	places   = 4
	unit     = 10_000
	maxWeigh = 1_000_000 // of shares and weights
)

// ErrBadSplit is for a rule that can't be: its message says why.
var ErrBadSplit = errs.New(errs.Invalid, "bad_split", "this can't be split so").At("body.split")

func badSplit(format string, args ...any) error {
	return errs.New(errs.Invalid, ErrBadSplit.Code, format, args...).At(ErrBadSplit.Field)
}

// Split says what each has to bear of an amount, sorted by user. The cuts always
// add up to it.
//
// Where it doesn't divide, each first gets what is theirs rounded down, and what is
// left goes, a minor unit each, to those who lost most by that (largest remainder).
// Of several who lost the same, sorted by id and t in number, it begins with number
// (turn mod t) and goes on around: with turns that count up, each of them pays the
// odd cent as often as any other.
func Split(mode Mode, amount, turn int64, parts []Part) ([]Cut, error) {
	switch {
	case amount < 0 || amount > core.MaxAmount:
		return nil, core.ErrAmount.At("body.amount")
	case len(parts) == 0:
		return nil, badSplit("an expense is split among at least one member")
	case len(parts) > MaxParts:
		return nil, badSplit("an expense is split among at most %d members", MaxParts)
	}
	parts = slices.Clone(parts)
	slices.SortFunc(parts, func(a, b Part) int { return compareUsers(a.User, b.User) })
	cuts, weights := make([]Cut, len(parts)), make([]uint64, len(parts))
	var sum uint64
	for i, p := range parts {
		if i > 0 && p.User == parts[i-1].User {
			return nil, badSplit("somebody is in it twice")
		}
		w, err := weigh(mode, p.Value)
		if err != nil {
			return nil, err
		}
		cuts[i].User, weights[i], sum = p.User, w, sum+w // at most 1,000 of 10^15
	}
	switch want := uint64(amount); {
	case mode == Exact && sum != want:
		return nil, badSplit("the parts come to %d instead of %d, which is %s", sum, want, off(sum, want))
	case mode == Exact:
		for i, w := range weights {
			cuts[i].Amount = int64(w)
		}
		return cuts, nil
	case mode == Percent && sum != 100*unit:
		return nil, badSplit("the percentages come to %s instead of 100, which is %s", decimal(sum), off(sum, 100*unit))
	case sum == 0:
		return nil, badSplit("somebody must have a share")
	}
	largestRemainder(cuts, weights, sum, amount, turn)
	return cuts, nil
}

func off(sum, want uint64) string {
	if sum > want {
		return "too much"
	}
	return "too little"
}

// largestRemainder splits an amount by weights that come to sum.
func largestRemainder(cuts []Cut, weights []uint64, sum uint64, amount, turn int64) {
	lost := make([]uint64, len(cuts))
	left := amount
	for i, w := range weights {
		hi, lo := bits.Mul64(uint64(amount), w)
		floor, rest := bits.Div64(hi, lo, sum) // w <= sum, so it is at most the amount
		cuts[i].Amount, lost[i] = int64(floor), rest
		left -= int64(floor)
	}
	order := make([]int, len(cuts)) // by what they lost; stable: the same stay sorted by id
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(lost[b], lost[a]) })
	for left > 0 { // fewer than lost anything, so each gets at most one
		same := 1
		for same < len(order) && lost[order[same]] == lost[order[0]] {
			same++
		}
		first := int(turn % int64(same))
		for i := range min(same, int(left)) {
			cuts[order[(first+i)%same]].Amount++
			left--
		}
		order = order[same:]
	}
}

// weigh reads one's value in a rule.
func weigh(mode Mode, value string) (uint64, error) {
	switch mode {
	case Equal:
		if value != "" {
			return 0, badSplit("an equal split has no values")
		}
		return 1, nil
	case Exact:
		n, err := strconv.ParseUint(value, 10, 63)
		if err != nil || !digits(value) {
			return 0, badSplit("a part is a whole number of minor units, and not negative")
		}
		if n > core.MaxAmount {
			return 0, core.ErrAmount.At(ErrBadSplit.Field)
		}
		return n, nil
	case Percent:
		n, ok := parseDecimal(value, 100)
		if !ok {
			return 0, badSplit("a percentage is 0 to 100, with at most %d decimal places", places)
		}
		return n, nil
	case Shares:
		n, err := strconv.ParseUint(value, 10, 63)
		if err != nil || !digits(value) || n > maxWeigh {
			return 0, badSplit("shares are a whole number from 0 to %d", maxWeigh)
		}
		return n, nil
	case Weights:
		n, ok := parseDecimal(value, maxWeigh)
		if !ok {
			return 0, badSplit("a weight is 0 to %d, with at most %d decimal places", maxWeigh, places)
		}
		return n, nil
	}
	return 0, badSplit("a split is equal, exact, percent, shares or weights")
}

// digits reports whether a number is written by digits alone.
func digits(s string) bool {
	return s != "" && len(s) <= 18 && strings.Trim(s, "0123456789") == ""
}

// parseDecimal reads a decimal of at most so many places, in units of the last.
func parseDecimal(s string, most uint64) (uint64, bool) {
	whole, fraction, dot := strings.Cut(s, ".")
	if !digits(whole) || dot && !digits(fraction) || len(fraction) > places {
		return 0, false
	}
	n, err := strconv.ParseUint(whole+fraction+strings.Repeat("0", places-len(fraction)), 10, 64)
	return n, err == nil && n <= most*unit
}

// decimal writes what parseDecimal read.
func decimal(n uint64) string {
	return strings.TrimRight(strings.TrimRight(fmt.Sprintf("%d.%0*d", n/unit, places, n%unit), "0"), ".")
}

func compareUsers(a, b core.UserID) int { return slices.Compare(a[:], b[:]) }
