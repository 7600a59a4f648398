package expenses

import (
	"math/big"
	"strings"

	"github.com/mustermesh/muster/core"
)

// exchange converts an amount by a rate: of one major unit of its currency so many of
// the other one. What it comes to is rounded to a minor unit, halves up.
func exchange(m core.Money, into core.Currency, rate string) (core.Money, error) {
	if !into.Known() {
		return core.Money{}, core.ErrCurrency.At("body.into")
	}
	whole, fraction, dot := strings.Cut(rate, ".")
	if !digits(whole) || dot && !digits(fraction) || len(whole) > 12 || len(fraction) > 12 || into == m.Currency {
		return core.Money{}, ErrBadRate
	}
	// In minor units of into: amount × rate × 10^(its exponent − the other's), as a
	// fraction of integers.
	above, _ := new(big.Int).SetString(whole+fraction, 10)
	above.Mul(above, big.NewInt(m.Amount)).Mul(above, power(into.Exponent()))
	below := new(big.Int).Mul(power(len(fraction)), power(m.Currency.Exponent()))
	above.Add(above.Lsh(above, 1), below).Quo(above, below.Lsh(below, 1)) // (2a + b) / 2b
	if !above.IsInt64() || above.Int64() > core.MaxAmount {
		return core.Money{}, core.ErrAmount.At("body.amount")
	}
	if above.Sign() == 0 {
		return core.Money{}, ErrBadRate
	}
	return core.Money{Amount: above.Int64(), Currency: into}, nil
}

func power(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }
