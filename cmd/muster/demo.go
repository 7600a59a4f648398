package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/mustermesh/muster/bench/replay"
	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/core/httpapi"
	"github.com/mustermesh/muster/internal/node"
)

// demo is what the demo group needs to be the same one at the next start.
type demo struct {
	Password string `json:"password"` // of its users, who can do nothing but walk
	Group    string `json:"group"`
}

const (
	demoGroup = "Three recorded walks"
	// demoSpeed makes the walks lively without making the people run.
	demoSpeed = 4
)

// demoUsers walk the recorded tracks, in the order of the files' names: a
// drive around Višnjan, Lake Cerknica, and the canyon of Korita.
var demoUsers = []string{"Demo Mateja", "Demo Luka", "Demo Nina"}

// playDemo plays the recorded tracks back and forth, each in another region.
func playDemo(ctx context.Context, env node.DemoEnv) error {
	d, err := readDemo(env.State)
	if err != nil {
		return err
	}
	tracks, err := replay.LoadFS(replay.Demo())
	if err != nil {
		return err
	}
	cfg := replay.Config{
		API: env.API, Tracks: tracks, Speed: demoSpeed, Regions: env.Regions, Group: demoGroup, Loop: true, Log: env.Log,
	}
	email := func(track int) string { return fmt.Sprintf("demo-%d@muster.invalid", track) }
	cfg.SignIn = func(ctx context.Context, api *client.API, track int) error {
		_, err := api.Login(ctx, email(track), d.Password, "muster demo")
		if e, ok := errors.AsType[*client.Error](err); ok && e.Code == "invalid_credentials" {
			_, err = api.Register(ctx, demoUsers[track%len(demoUsers)], email(track), d.Password, "muster demo")
		}
		return err
	}
	if d.Group != "" {
		// The group is there; only its invites expire.
		owner := client.NewAPI(env.API, client.APIConfig{})
		if err := cfg.SignIn(ctx, owner, 0); err != nil {
			return err
		}
		invite, err := owner.Invite(ctx, d.Group)
		if err != nil {
			return fmt.Errorf("invite to the demo group: %w", err)
		}
		cfg.Invite = invite.InviteCode
	}
	cfg.OnGroup = func(id, code string) {
		env.Tell(httpapi.Demo{InviteCode: code, Name: demoGroup})
		if d.Group = id; writeDemo(env.State, d) != nil {
			env.Log.Warn("the demo group will be another one at the next start")
		}
	}
	return replay.Run(ctx, cfg)
}

func readDemo(path string) (demo, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		d := demo{Password: rand.Text()}
		return d, writeDemo(path, d)
	}
	if err != nil {
		return demo{}, fmt.Errorf("demo: %w", err)
	}
	var d demo
	if err := json.Unmarshal(b, &d); err != nil {
		return demo{}, fmt.Errorf("demo: %s: %w", path, err)
	}
	return d, nil
}

func writeDemo(path string, d demo) error {
	b, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return nil
}
