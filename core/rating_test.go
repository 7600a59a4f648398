package core

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRating(t *testing.T) {
	of := func(stars ...int64) (r Rating) {
		for _, s := range stars {
			r.Sum, r.Count = r.Sum+s, r.Count+1
		}
		return r
	}
	require.Zero(t, of().Average())
	require.Equal(t, 3.0, of().Ranking())
	require.Equal(t, 4.33, of(4, 4, 5).Average())

	many := Rating{Sum: 96, Count: 20} // 4.8
	require.Greater(t, many.Ranking(), of(5).Ranking(), "one rating of five stars is little")
	require.Greater(t, of(1).Ranking(), Rating{Sum: 40, Count: 20}.Ranking(), "and so is one of one star")
	require.InDelta(t, many.Average(), Rating{Sum: 9600, Count: 2000}.Ranking(), 0.01, "many speak for themselves")
}
