package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/mustermesh/muster/core/auth/hashers"
	"github.com/mustermesh/muster/internal/node"
)

// HashCmd computes password hashes for the process that started it, at the lowest
// priority: see core/auth/hashers.
type HashCmd struct{}

// Run ends when its input does, and heeds no signal before.
func (*HashCmd) Run(context.Context, *slog.Logger) error { return hashers.Serve(os.Stdin, os.Stdout) }

// hashing is how nodes of this process have passwords hashed elsewhere.
func hashing() node.HashingConfig {
	self, err := hashers.Self()
	if err != nil {
		return node.HashingConfig{} // in this process, then
	}
	return node.HashingConfig{Command: []string{self, "hash"}}
}
