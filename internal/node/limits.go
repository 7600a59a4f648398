package node

import (
	"fmt"
	"time"

	"github.com/mustermesh/muster/core/auth"
	"github.com/mustermesh/muster/edge/admit"
)

// LimitsConfig is how much a node lets through, as the file says it; what is
// left out has its default. See docs/operations.md.
type LimitsConfig struct {
	Address     RateConfig `yaml:"address"`     // sign-ups, sign-ins, refreshes and joins, each, per client address
	User        RateConfig `yaml:"user"`        // a user's requests to the HTTP API; a device has two thirds of it
	Connections RateConfig `yaml:"connections"` // of sessions, per client address
	Gateway     RateConfig `yaml:"gateway"`     // fixes of a session of a fleet's gateway
	Messages    RateConfig `yaml:"messages"`    // of a session; more of them may have as many more frames and bytes, too
}

// RateConfig is a bucket: so many at once, then so many a second.
type RateConfig struct {
	Burst     int     `yaml:"burst"`
	PerSecond float64 `yaml:"per_second"`
}

func (r RateConfig) check(name string) error {
	if r != (RateConfig{}) && (r.Burst < 1 || !(r.PerSecond > 0 && r.PerSecond <= 1e6)) {
		return fmt.Errorf("limits: %s needs a burst of at least 1 and a per_second above 0", name)
	}
	return nil
}

func (r RateConfig) limit() auth.Limit {
	if r == (RateConfig{}) {
		return auth.Limit{}
	}
	return auth.Limit{Burst: r.Burst, Every: time.Duration(float64(time.Second) / r.PerSecond)}
}

// apply puts the limits where the node looks for them.
func (l LimitsConfig) apply(c *Config) error {
	for name, r := range map[string]RateConfig{"address": l.Address, "user": l.User, "connections": l.Connections, "gateway": l.Gateway, "messages": l.Messages} {
		if err := r.check(name); err != nil {
			return err
		}
	}
	c.Limits.Address, c.Limits.User = l.Address.limit(), l.User.limit()
	c.Session.Gate.Address = admit.Rate{PerSecond: l.Connections.PerSecond, Burst: float64(l.Connections.Burst)}
	if l.Messages != (RateConfig{}) {
		d := admit.Limits{}.Defaults()
		more := max(1, l.Messages.PerSecond/d.Messages.PerSecond, float64(l.Messages.Burst)/d.Messages.Burst)
		c.Session.Limits = admit.Limits{
			Messages: admit.Rate{PerSecond: l.Messages.PerSecond, Burst: float64(l.Messages.Burst)},
			Frames:   admit.Rate{PerSecond: d.Frames.PerSecond * more, Burst: d.Frames.Burst * more},
			Bytes:    admit.Rate{PerSecond: d.Bytes.PerSecond * more, Burst: d.Bytes.Burst * more},
		}
	}
	c.Session.Gateways.Fixes = admit.Rate{PerSecond: l.Gateway.PerSecond, Burst: float64(l.Gateway.Burst)}
	return nil
}
