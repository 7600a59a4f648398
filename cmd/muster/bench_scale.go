package main

import (
	"os"

	"github.com/mustermesh/muster/bench/scale"
)

// BenchScaleCmd counts what many regions cost; docs/scale.md has its table.
type BenchScaleCmd struct {
	Sessions int     `help:"Sessions that are live at once." default:"1000000"`
	Regions  []int   `help:"Numbers of regions to compare." default:"10,50,200"`
	Local    float64 `help:"Share of a group's members who are in its own region." default:"0.85"`
	Skew     float64 `help:"How much the regions differ in size: Zipf's exponent." default:"0.8"`
	Group    float64 `help:"Members of a room who are live, on average." default:"8"`
	Moving   float64 `help:"Share of the sessions that move, each once a second." default:"0.05"`
	Seed     uint64  `help:"Another one draws other groups." default:"1"`
}

// Run counts and prints.
func (c *BenchScaleCmd) Run() error {
	var results []*scale.Result
	for _, n := range c.Regions {
		cfg := scale.Defaults()
		cfg.Sessions, cfg.Regions, cfg.Local, cfg.Skew, cfg.GroupSize, cfg.Moving, cfg.Seed = c.Sessions, n, c.Local, c.Skew, c.Group, c.Moving, c.Seed
		r, err := scale.Run(cfg)
		if err != nil {
			return err
		}
		results = append(results, r)
	}
	return scale.Print(os.Stdout, results)
}
