package node

import (
	"context"

	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/geo/grant"
)

// noChoices is what users share who can choose nothing: what their fixes name.
type noChoices struct{}

func (noChoices) Sharing(context.Context, string, uint64) (edge.Choices, error) {
	set, err := grant.NewSet(nil, nil, false)
	return edge.Choices{Set: set}, err
}

func (noChoices) Keep(string, grant.Raw) {}
