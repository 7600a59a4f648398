package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/mustermesh/muster/bench/replay"
	"github.com/mustermesh/muster/client"
)

// ReplayCmd plays recorded tracks through the Go SDK.
type ReplayCmd struct {
	Track     []string `help:"GPX files, one user each; none plays the tracks that come with muster." type:"existingfile" placeholder:"FILE.gpx"`
	Speed     float64  `help:"Times the recorded speed." default:"1"`
	API       string   `help:"Base URL of the mesh." default:"http://localhost:8080" name:"api"`
	Region    []string `help:"Regions from which the tracks are played, in turn; none means all."`
	Group     string   `help:"Name of the group to make." default:"Replay" xor:"group"`
	Invite    string   `help:"Code of a group to join instead." xor:"group"`
	Loop      bool     `help:"Play back and forth until interrupted."`
	Transport string   `help:"auto, webtransport or websocket." enum:"auto,webtransport,websocket" default:"auto"`
}

// Run plays until all tracks have ended.
func (c *ReplayCmd) Run(ctx context.Context, log *slog.Logger) error {
	tracks, err := c.tracks()
	if err != nil {
		return err
	}
	return replay.Run(ctx, replay.Config{
		API: c.API, Tracks: tracks, Speed: c.Speed, Regions: c.Region,
		Group: c.Group, Invite: c.Invite, Loop: c.Loop, Log: log,
		Transport: transportOf(c.Transport),
		OnGroup: func(_, code string) {
			fmt.Printf("Playing %d tracks at %g×. Join them with the invite code %s\n", len(tracks), c.Speed, code)
		},
	})
}

func (c *ReplayCmd) tracks() ([]replay.Track, error) {
	if len(c.Track) == 0 {
		return replay.LoadFS(replay.Demo())
	}
	var tracks []replay.Track
	for _, file := range c.Track {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("replay: %w", err)
		}
		t, err := replay.Load(strings.TrimSuffix(filepath.Base(file), filepath.Ext(file)), f)
		_ = f.Close()
		if err != nil {
			return nil, fmt.Errorf("replay: %w", err)
		}
		tracks = append(tracks, t)
	}
	return tracks, nil
}

func transportOf(name string) client.Transport {
	switch name {
	case "webtransport":
		return client.WebTransportOnly
	case "websocket":
		return client.WebSocketOnly
	}
	return client.Auto
}
