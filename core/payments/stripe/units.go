package stripe

import (
	"fmt"
	"slices"
	"strings"

	stripe "github.com/stripe/stripe-go/v82"

	"github.com/mustermesh/muster/core"
)

// zeroDecimal are the currencies that Stripe counts in whole units
// (https://docs.stripe.com/currencies#zero-decimal).
var zeroDecimal = []core.Currency{"BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"}

// wholeOnly are counted in hundredths, for the sake of old programs, and have none
// (https://docs.stripe.com/currencies#special-cases).
var wholeOnly = []core.Currency{"ISK", "UGX"}

// places is how many decimal places Stripe's unit of a currency is.
func places(c core.Currency) int {
	switch {
	case slices.Contains(zeroDecimal, c):
		return 0
	case c.Exponent() == 3: // the last of them is 0
		return 3
	}
	return 2
}

// step is how many of Stripe's units the smallest amount is.
func step(c core.Currency) int64 {
	switch {
	case slices.Contains(wholeOnly, c):
		return 100
	case c.Exponent() == 3:
		return 10
	}
	return 1
}

// units is money as Stripe counts it. What Stripe can't say is an error: nothing is
// ever rounded.
func units(m core.Money) (int64, error) {
	n := m.Amount // within core.MaxAmount: a hundred times as much is within 64 bits
	for e := m.Currency.Exponent(); e != places(m.Currency); {
		switch {
		case e < places(m.Currency):
			n, e = n*10, e+1
		case n%10 != 0:
			return 0, fmt.Errorf("stripe can't charge %s", m)
		default:
			n, e = n/10, e-1
		}
	}
	if n%step(m.Currency) != 0 {
		return 0, fmt.Errorf("stripe can't charge %s", m)
	}
	return n, nil
}

// money is what Stripe counts, as money. What isn't one of our minor units becomes
// none: zero, which is no payment's amount.
func money(n int64, currency stripe.Currency) core.Money {
	m := core.Money{Amount: n, Currency: core.Currency(strings.ToUpper(string(currency)))}
	if n < 0 || n > 100*core.MaxAmount {
		return core.Money{Currency: m.Currency}
	}
	for e := places(m.Currency); e != m.Currency.Exponent(); {
		switch {
		case e < m.Currency.Exponent():
			m.Amount, e = m.Amount*10, e+1
		case m.Amount%10 != 0:
			return core.Money{Currency: m.Currency}
		default:
			m.Amount, e = m.Amount/10, e-1
		}
	}
	return m
}
