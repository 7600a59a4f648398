package nearby

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/geo"
)

// Whoever goes to and fro between two cells while others ask who is near is found
// once at most, and never beyond the radius.
func TestWhoMovesIsFoundOnce(t *testing.T) {
	o := newOwner(func(int) bool { return true }, 1000, 10)
	a, b := geo.Point{Lat: 52.52, Lng: 13.30}, geo.Point{Lat: 52.52, Lng: 13.42}
	middle := geo.Point{Lat: 52.52, Lng: 13.36}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for v := uint64(1); ; v++ {
			select {
			case <-stop:
				return
			default:
			}
			at := []geo.Point{a, b, {Lat: 53.5, Lng: 13.36}}[v%3]
			p := person("ann", v, at)
			o.give(t, p)
		}
	})
	defer wg.Wait()
	defer close(stop)
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		people, _ := o.near(time.Now(), "", middle, 10_000, 10)
		require.LessOrEqual(t, len(people), 1)
		for _, p := range people {
			require.LessOrEqual(t, geo.Distance(middle, p.View.Point), 10_001.0)
		}
	}
}
