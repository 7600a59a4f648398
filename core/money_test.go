package core_test

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/bojanz/currency"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
)

// The minor units of ISO 4217 (list one), which are not what CLDR shows people: it
// prints Indonesian prices without the sen that they have.
func TestExponents(t *testing.T) {
	other := map[core.Currency]int{
		"BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3,
		"CLF": 4, "UYW": 4,
		"BIF": 0, "CLP": 0, "DJF": 0, "GNF": 0, "ISK": 0, "JPY": 0, "KMF": 0, "KRW": 0, "PYG": 0,
		"RWF": 0, "UGX": 0, "UYI": 0, "VND": 0, "VUV": 0, "XAF": 0, "XOF": 0, "XPF": 0,
	}
	for c := range other {
		require.True(t, c.Known(), c)
	}
	codes := currency.GetCurrencyCodes()
	require.Greater(t, len(codes), 150)
	for _, code := range codes {
		c := core.Currency(code)
		want, ok := other[c]
		if !ok {
			want = 2 // AFN, COP, HUF, IDR, IRR, LAK, LBP, MGA, MMK, MRU, RSD, UZS, …
		}
		require.Equal(t, want, c.Exponent(), c)
	}
	for _, c := range []core.Currency{"", "eur", "EURO", "XXX", "DEM", "BTC", "XAU", "E R"} {
		require.False(t, c.Known(), c)
		require.Zero(t, c.Exponent(), c)
	}
}

func TestMoney(t *testing.T) {
	for _, x := range []struct {
		m    core.Money
		want string
	}{
		{core.Money{Amount: 1240, Currency: "EUR"}, "12.40"},
		{core.Money{Amount: 5, Currency: "EUR"}, "0.05"},
		{core.Money{Amount: -5, Currency: "KWD"}, "-0.005"},
		{core.Money{Amount: 0, Currency: "CLF"}, "0.0000"},
		{core.Money{Amount: -1240, Currency: "JPY"}, "-1240"},
		{core.Money{Amount: math.MinInt64, Currency: "EUR"}, "-92233720368547758.08"},
	} {
		require.Equal(t, x.want, x.m.Decimal())
		require.Equal(t, x.want+" "+string(x.m.Currency), x.m.String())
	}

	b, err := json.Marshal(core.Money{Amount: 1240, Currency: "EUR"})
	require.NoError(t, err)
	require.JSONEq(t, `{"amount": 1240, "currency": "EUR"}`, string(b))

	eur := func(n int64) core.Money { return core.Money{Amount: n, Currency: "EUR"} }
	require.NoError(t, eur(core.MaxAmount).Check())
	require.NoError(t, eur(-core.MaxAmount).Check())
	require.ErrorIs(t, eur(core.MaxAmount+1).Check(), core.ErrAmount)
	require.ErrorIs(t, eur(math.MinInt64).Check(), core.ErrAmount)
	require.ErrorIs(t, core.Money{Amount: 1, Currency: "eur"}.Check(), core.ErrCurrency)

	sum, err := eur(1).Add(eur(-3))
	require.NoError(t, err)
	require.Equal(t, eur(-2), sum)
	require.Equal(t, eur(2), sum.Negate())
	for _, x := range [][2]int64{{core.MaxAmount, 1}, {math.MaxInt64, 1}, {math.MinInt64, -1}, {-core.MaxAmount, -1}, {1, math.MaxInt64}} {
		_, err = eur(x[0]).Add(eur(x[1]))
		require.ErrorIs(t, err, core.ErrAmount, x)
	}
	_, err = eur(1).Add(core.Money{Amount: 1, Currency: "USD"})
	require.ErrorIs(t, err, core.ErrCurrency)
}
