package node

import (
	"cmp"
	"log/slog"
	"runtime"

	"github.com/mustermesh/muster/core/auth"
	"github.com/mustermesh/muster/core/auth/hashers"
)

// HashingConfig says how passwords are hashed; its zero value is in this process.
type HashingConfig struct {
	// Command starts a process that hashes: see core/auth/hashers.
	Command []string `yaml:"-"`
	// Parallel is how many are hashed at once. Default: one per core; in this process
	// one per two, since nothing urgent can interrupt a hash there.
	Parallel int `yaml:"parallel"`
}

// pool is what hashes for all nodes of this process; nil without a command. It is
// to be started before them and stopped after.
func (c HashingConfig) pool(log *slog.Logger) (*hashers.Pool, auth.HashConfig) {
	if len(c.Command) == 0 {
		return nil, auth.HashConfig{Parallel: c.Parallel}
	}
	h := auth.HashConfig{Parallel: cmp.Or(c.Parallel, runtime.GOMAXPROCS(0))}
	p := hashers.New(h.Parallel, log, c.Command...)
	h.Elsewhere = p.Hash
	return p, h
}
