package choice

const (
	least  = 0.4 // of what the lowest layer costs: less room pauses the picture
	stepUp = 1.1 // a step above what there was has to leave this much of its layer's rate
)

// Picture is a track with layers on its way to a receiver.
type Picture struct {
	Rates  [3]int // bit/s; 0: that layer does not come
	Layers int
	Most   int // the layer that shows it as big as it is shown
	Now    int // the layer that the receiver has; -1: none
	Got    int // the result; -1: nothing
}

// Distribute gives each picture its lowest layer first, the first ones before others, then
// one step more to each in turn, as long as the budget (bit/s) lasts. A step above what a
// picture has now needs some room, so that it is not taken back at once. With atLeast
// everybody gets the lowest layer, budget or not. It returns what it would take to take
// the first step that there was no budget for; 0: none.
func Distribute(pictures []*Picture, budget int, atLeast bool) (lack int) {
	for _, p := range pictures {
		p.Got = -1
	}
	left := float64(budget)
	for range 3 {
		for _, p := range pictures {
			next := p.next()
			if next < 0 || next > p.Most {
				continue
			}
			cost, room := p.step(next)
			if room > left && !(atLeast && p.Got < 0) {
				if lack == 0 {
					lack = budget + int(room-left)
				}
				continue
			}
			left -= cost
			p.Got = next
		}
	}
	return lack
}

// step is what a layer costs beside the one that it got, and the room that it takes to be
// given it.
func (p *Picture) step(next int) (cost, room float64) {
	cost = float64(p.Rates[next])
	if p.Got < 0 {
		return cost, least * cost
	}
	cost -= float64(p.Rates[p.Got])
	if next > p.Now {
		return cost, cost + (stepUp-1)*float64(p.Rates[next])
	}
	return cost, cost
}

// next is the layer after the one that it got, of those that come; -1: there is none.
func (p *Picture) next() int {
	for l := p.Got + 1; l < p.Layers; l++ {
		if p.Rates[l] > 0 {
			return l
		}
	}
	return -1
}
