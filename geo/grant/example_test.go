package grant_test

import (
	"fmt"
	"time"

	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
)

// Ada lets her climbing group see about where she is, and Bob, for an hour,
// exactly.
func Example() {
	now := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	bob := grant.Audience{Kind: grant.Person, ID: "bob"}
	climbers := grant.Audience{Kind: grant.Group, ID: "climbers"}
	set, err := grant.NewSet([]grant.Grant{
		{Audience: climbers, Precision: grant.Cells(6)},
		{Audience: bob, Precision: grant.Exact, Expires: now.Add(time.Hour)},
	}, nil, false)
	if err != nil {
		panic(err)
	}
	ada := grant.NewSnapper([]byte("the cluster's secret"), "ada")
	raw, err := grant.NewRaw(geo.Point{Lat: 47.0707, Lng: 12.6957}, 8, grant.Read(1.2), grant.Reading{}, grant.Read(0.6), now)
	if err != nil {
		panic(err)
	}
	if _, err := ada.Take(raw, now); err != nil {
		panic(err)
	}
	fmt.Println(raw)
	for _, who := range []grant.Audience{bob, climbers} {
		v, ok := set.View(now, ada, who)
		fmt.Printf("%v: %v %v %.4f %.4f ±%.0f m\n", who, ok, v.Precision, v.Point.Lat, v.Point.Lng, v.Accuracy)
	}
	_, ok := set.View(now.Add(time.Hour), ada, bob)
	fmt.Println(bob, ok)

	// Output:
	// fix(hidden)
	// person:bob: true exact 47.0707 12.6957 ±8 m
	// group:climbers: true r6 47.0862 12.7088 ±3826 m
	// person:bob false
}
