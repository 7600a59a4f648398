package scenario

import (
	"context"
	"fmt"

	"github.com/mustermesh/muster/bench/fleet"
	"github.com/mustermesh/muster/bench/peers"
	"github.com/mustermesh/muster/client"
)

// GeoFleetTarget starts a region of one node, and on it a fleet that shows
// everybody exactly where its subjects are, with a key for its gateways.
func GeoFleetTarget(ctx context.Context, f *fleet.Fleet, transport client.Transport) (t GeoTarget, err error) {
	if err := f.Start(ctx); err != nil {
		return t, err
	}
	pool := f.Client()
	api := client.NewAPI(f.API(), client.APIConfig{HTTP: pool})
	if _, err := api.Guest(ctx, "", "muster bench"); err != nil {
		return t, fmt.Errorf("sign up: %w", err)
	}
	made, err := api.CreateFleet(ctx, client.FleetDraft{Name: "Bench", Precision: "exact"})
	if err != nil {
		return t, fmt.Errorf("fleet: %w", err)
	}
	key, err := api.CreateFleetKey(ctx, made.FleetID, "bench")
	if err != nil {
		return t, fmt.Errorf("fleet: %w", err)
	}
	return GeoTarget{Name: "muster", PID: f.Nodes[0].PID(), Open: peers.Gateway(made.FleetID, client.Config{
		Endpoints: f.Endpoints(0), StayPut: true, HTTP: pool, Tokens: client.NewFleetTokens(api, key.Key),
		Dialer: &client.Dialer{Transport: transport, TLS: f.TLS()},
	})}, nil
}

// Tile38Target is a Tile38 that somebody started.
func Tile38Target(address string, pid int) GeoTarget {
	return GeoTarget{Name: "tile38", Open: peers.Tile38(address), PID: pid,
		Clear: func(ctx context.Context) error { return peers.DropTile38(ctx, address) }}
}

// RedisTarget is a Redis that somebody started.
func RedisTarget(address string, pid int) GeoTarget {
	return GeoTarget{Name: "redis", Open: peers.Redis(address), PID: pid,
		Clear: func(ctx context.Context) error { return peers.DropRedis(ctx, address) }}
}
