package index_test

import (
	"fmt"
	"time"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/index"
)

func Example() {
	x := index.New()
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC).UnixMilli()
	lasts := now + time.Minute.Milliseconds()
	_, _ = x.Upsert(1, geo.Point{Lat: 52.5163, Lng: 13.3777}, now, lasts) // Brandenburg Gate
	_, _ = x.Upsert(2, geo.Point{Lat: 52.5186, Lng: 13.3762}, now, lasts) // the Reichstag
	_, _ = x.Upsert(3, geo.Point{Lat: 52.5208, Lng: 13.4094}, now, lasts) // the television tower

	var hits []index.Hit // used again for each query
	me, blocked := geo.Point{Lat: 52.5145, Lng: 13.3501}, uint64(2)
	hits = x.Nearest(hits[:0], me, 2, 5000, index.Options{
		Now:  now,
		Keep: func(id uint64) bool { return id != blocked },
	})
	for _, h := range hits {
		fmt.Printf("%d: %.0f m\n", h.ID, h.Distance)
	}

	gone := x.Expire(nil, lasts)
	fmt.Println(len(gone), "expired,", x.Len(), "left")
	// Output:
	// 1: 1878 m
	// 3: 4073 m
	// 3 expired, 0 left
}
