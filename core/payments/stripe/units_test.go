package stripe

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	stripe "github.com/stripe/stripe-go/v82"

	"github.com/mustermesh/muster/core"
)

// Money as Stripe counts it, and back; what it can't say is refused, not rounded.
func TestUnits(t *testing.T) {
	for _, c := range []struct {
		money core.Money
		units int64 // -1: Stripe can't
	}{
		{core.Money{Amount: 1240, Currency: "EUR"}, 1240},
		{core.Money{Amount: 1240, Currency: "JPY"}, 1240},
		{core.Money{Amount: 12340, Currency: "KWD"}, 12340},
		{core.Money{Amount: 12345, Currency: "KWD"}, -1},
		{core.Money{Amount: 5, Currency: "ISK"}, 500},
		{core.Money{Amount: 5, Currency: "UGX"}, 500},
		{core.Money{Amount: 500, Currency: "MGA"}, 5},
		{core.Money{Amount: 501, Currency: "MGA"}, -1},
		{core.Money{Amount: core.MaxAmount, Currency: "ISK"}, core.MaxAmount * 100},
		{core.Money{Amount: 1, Currency: "EUR"}, 1},
	} {
		got, err := units(c.money)
		if c.units < 0 {
			require.Error(t, err, c.money)
			continue
		}
		require.NoError(t, err, c.money)
		require.Equal(t, c.units, got, c.money)
		require.Equal(t, c.money, money(got, stripe.Currency(strings.ToLower(string(c.money.Currency)))))
	}
	require.Zero(t, money(-5, "eur").Amount)
	require.Zero(t, money(1<<62, "eur").Amount)
	require.Zero(t, money(550, "isk").Amount, "half a króna is none")
}
