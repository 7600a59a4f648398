package core

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/bojanz/currency"

	"github.com/mustermesh/muster/internal/errs"
)

// Money that can't be, as clients are told.
var (
	ErrCurrency = errs.New(errs.Invalid, "unknown_currency", "a currency is a code of ISO 4217, such as EUR")
	ErrAmount   = errs.New(errs.Invalid, "amount_out_of_range", "an amount has at most 1,000,000,000,000,000 minor units, and so has a sum")
)

// MaxAmount is what one amount has at most, in minor units. A browser counts so far
// without rounding, and nine thousand of them add up in 64 bits.
const MaxAmount = 1_000_000_000_000_000

// Currency is a code of ISO 4217.
type Currency string

// Known reports whether there is such a currency.
func (c Currency) Known() bool { return c != "" && currency.IsValid(string(c)) }

// Exponent is how many decimal places the minor unit is: 2 for EUR, 0 for JPY, 3 for
// KWD; 0 for what isn't known.
func (c Currency) Exponent() int {
	digits, _ := currency.GetDigits(string(c))
	return int(digits)
}

// Money is an amount in minor units of a currency: 1240 EUR are 12.40 euros. It is
// never a float.
type Money struct {
	Amount   int64    `json:"amount" doc:"In minor units: 1240 of EUR are 12.40" minimum:"-1000000000000000" maximum:"1000000000000000"`
	Currency Currency `json:"currency" doc:"A code of ISO 4217" minLength:"3" maxLength:"3"`
}

// Check wants a known currency and an amount in range, of either sign.
func (m Money) Check() error {
	switch {
	case !m.Currency.Known():
		return ErrCurrency
	case m.Amount > MaxAmount || m.Amount < -MaxAmount:
		return ErrAmount
	}
	return nil
}

// Add is the sum of two amounts of the same currency, if that is in range. Other
// currencies are a mistake of the caller's: money is converted by an entry of its own
// alone.
func (m Money) Add(o Money) (Money, error) {
	if m.Currency != o.Currency {
		return Money{}, fmt.Errorf("add %s to %s: %w", o.Currency, m.Currency, ErrCurrency)
	}
	sum := Money{m.Amount, m.Currency}
	if m.Amount > MaxAmount || m.Amount < -MaxAmount || o.Amount > MaxAmount || o.Amount < -MaxAmount {
		return Money{}, ErrAmount
	}
	if sum.Amount += o.Amount; sum.Amount > MaxAmount || sum.Amount < -MaxAmount {
		return Money{}, ErrAmount
	}
	return sum, nil
}

// Negate is the other side of it.
func (m Money) Negate() Money { return Money{-m.Amount, m.Currency} }

// Decimal is the amount in major units: "12.40", "-0.005" for KWD, "1240" for JPY.
func (m Money) Decimal() string {
	sign, places := "", m.Currency.Exponent()
	digits := strconv.FormatInt(m.Amount, 10)
	if m.Amount < 0 {
		sign, digits = "-", digits[1:]
	}
	if places == 0 {
		return sign + digits
	}
	if n := places + 1 - len(digits); n > 0 {
		digits = strings.Repeat("0", n) + digits
	}
	return sign + digits[:len(digits)-places] + "." + digits[len(digits)-places:]
}

// String is for people who read logs: "12.40 EUR".
func (m Money) String() string { return m.Decimal() + " " + string(m.Currency) }
