package core

import "math"

// Rating is what people who met somebody gave them, as it is kept with that user
// (users.rating_sum and rating_count) and shown wherever they are: from there, and
// nowhere counted anew.
type Rating struct {
	Sum   int64 // of the stars
	Count int64 // of the ratings, of 1 to 5 stars each
}

// priorMean and priorCount are the ratings that everybody begins with, for Ranking.
const (
	priorMean  = 3 // the middle of the scale
	priorCount = 5
)

// Average is the plain one, to a hundredth; 0 without a rating.
func (r Rating) Average() float64 {
	if r.Count == 0 {
		return 0
	}
	return hundredths(float64(r.Sum) / float64(r.Count))
}

// Ranking is what people are ordered and filtered by: the average of their ratings
// and of priorCount ones of priorMean stars (a Bayesian average). So one rating of
// five stars outranks nobody who has twenty of 4.8, one of one star ruins nobody,
// and who has none is in the middle, so that they meet somebody who could rate them.
func (r Rating) Ranking() float64 {
	return hundredths(float64(priorMean*priorCount+r.Sum) / float64(priorCount+r.Count))
}

func hundredths(f float64) float64 { return math.Round(f*100) / 100 }
