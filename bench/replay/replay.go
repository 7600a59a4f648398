// Package replay plays recorded GPS tracks through the Go SDK: each track is a
// guest who signs up, joins the group and moves as somebody once did. It is the
// life on the demo's map and the load of tests that want real movement.
//
// Capture times are those of the replay, not of the recording. When a replay is
// so fast that points come due more often than Pace, those in between are left
// out, as the product itself would merge them; a track's last point is always
// played.
package replay

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mustermesh/muster/client"
)

// Pace is the least time between two fixes of one track.
const Pace = 100 * time.Millisecond

// linger is how long a user stays after the last point, so that whoever
// watches has it before they leave.
const linger = 3 * time.Second

//go:embed testdata/*.gpx
var demo embed.FS

// Demo returns the recorded tracks that come with Muster; testdata/README.md
// says whose they are.
func Demo() fs.FS {
	sub, err := fs.Sub(demo, "testdata")
	if err != nil {
		panic(err) // the embedded folder is there
	}
	return sub
}

// LoadFS loads all tracks (*.gpx) of a folder, in the order of their names.
func LoadFS(folder fs.FS) ([]Track, error) {
	names, err := fs.Glob(folder, "*.gpx")
	if err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	var tracks []Track
	for _, name := range names {
		f, err := folder.Open(name)
		if err != nil {
			return nil, fmt.Errorf("replay: %w", err)
		}
		t, err := Load(strings.TrimSuffix(path.Base(name), ".gpx"), f)
		_ = f.Close()
		if err != nil {
			return nil, fmt.Errorf("replay: %w", err)
		}
		tracks = append(tracks, t)
	}
	return tracks, nil
}

// Config describes a replay. API and Tracks are required.
type Config struct {
	API    string // base URL
	Tracks []Track
	Speed  float64 // times the recorded one; 0 means 1
	// Regions says from where the tracks are played, in turn; none means all
	// regions in turn.
	Regions []string
	// Group names the group to make; Invite is a code of one to join instead.
	Group  string
	Invite string
	// Loop plays back and forth until ctx ends.
	Loop      bool
	Transport client.Transport
	// SignIn signs the user of a track in; nil makes a guest named after it.
	SignIn func(ctx context.Context, api *client.API, track int) error
	// OnGroup is told the group, and an invite code to it, before anybody moves.
	OnGroup func(groupID, inviteCode string)
	HTTP    *http.Client
	Log     *slog.Logger
}

// Run plays the tracks until all have ended, or ctx does.
func Run(ctx context.Context, cfg Config) error {
	if len(cfg.Tracks) == 0 {
		return errors.New("replay: no tracks")
	}
	if cfg.Speed <= 0 {
		cfg.Speed = 1
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.SignIn == nil {
		cfg.SignIn = func(ctx context.Context, api *client.API, i int) error {
			return guest(ctx, api, cfg.Tracks[i].Name)
		}
	}
	edge, err := client.NewAPI(cfg.API, client.APIConfig{HTTP: cfg.HTTP}).Edge(ctx)
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	if len(cfg.Regions) == 0 {
		for _, r := range edge.Regions {
			cfg.Regions = append(cfg.Regions, r.Name)
		}
	}
	for _, want := range cfg.Regions {
		if !edge.Has(want) {
			return fmt.Errorf("replay: there is no region %q", want)
		}
	}
	pins, err := edge.Pins()
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	dialer := &client.Dialer{Transport: cfg.Transport, CertSHA256: pins}

	apis := make([]*client.API, len(cfg.Tracks))
	for i, t := range cfg.Tracks {
		if t.Untimed > 0 || t.Backward > 0 {
			cfg.Log.Info("points left out", "track", t.Name, "without_time", t.Untimed, "out_of_order", t.Backward, "kept", len(t.Points))
		}
		apis[i] = client.NewAPI(cfg.API, client.APIConfig{HTTP: cfg.HTTP})
		if err := client.Patiently(ctx, func() error { return cfg.SignIn(ctx, apis[i], i) }); err != nil {
			return fmt.Errorf("replay: sign in for %s: %w", t.Name, err)
		}
	}
	group, err := gather(ctx, cfg, apis)
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}

	players, ctx := errgroup.WithContext(ctx)
	for i, t := range cfg.Tracks {
		players.Go(func() error {
			region := cfg.Regions[i%len(cfg.Regions)]
			s, err := client.Connect(ctx, client.Config{
				Endpoints: edge.Endpoints(region), Tokens: apis[i], Dialer: dialer, Log: cfg.Log,
			})
			if err != nil {
				return fmt.Errorf("replay: %s: %w", t.Name, err)
			}
			defer s.Close()
			r, err := s.Join(ctx, client.GroupRoom(group))
			if err != nil {
				return fmt.Errorf("replay: %s: %w", t.Name, err)
			}
			cfg.Log.Info("playing", "track", t.Name, "region", region, "points", len(t.Points))
			if err := play(ctx, s, r, cfg, t); err != nil {
				return fmt.Errorf("replay: %s: %w", t.Name, err)
			}
			cfg.Log.Info("played", "track", t.Name)
			return nil
		})
	}
	return players.Wait()
}

// gather brings all users into one group.
func gather(ctx context.Context, cfg Config, apis []*client.API) (group string, err error) {
	code, rest := cfg.Invite, apis
	if code == "" {
		name := cfg.Group
		if name == "" {
			name = "Replay"
		}
		c, err := apis[0].CreateGroup(ctx, client.GroupDraft{Name: name, Description: "Recorded tracks, played again."})
		if err != nil {
			return "", fmt.Errorf("make the group: %w", err)
		}
		group, code, rest = c.GroupID, c.InviteCode, apis[1:]
	}
	for _, api := range rest {
		err := client.Patiently(ctx, func() error {
			g, err := api.Join(ctx, code)
			group = g.GroupID
			return err
		})
		if err != nil {
			return "", fmt.Errorf("join the group: %w", err)
		}
	}
	if cfg.OnGroup != nil {
		cfg.OnGroup(group, code)
	}
	return group, nil
}

// play reports a track's points when they are due.
func play(ctx context.Context, s *client.Session, r *client.Room, cfg Config, t Track) error {
	there := plan(t.Points, cfg.Speed)
	for way := there; ; {
		if err := walk(ctx, s, r, way); err != nil {
			return err
		}
		if !cfg.Loop || len(there) == 1 {
			return wait(ctx, s, linger)
		}
		// The turning point stays a moment, as people do.
		if err := wait(ctx, s, time.Second); err != nil {
			return err
		}
		if &way[0] == &there[0] {
			way = back(there)
		} else {
			way = there
		}
	}
}

// walk plays one way. Points that are due at once are represented by the last
// of them.
func walk(ctx context.Context, s *client.Session, r *client.Room, way []step) error {
	start := time.Now()
	var last time.Time
	for i := 0; i < len(way); i++ {
		due := start.Add(way[i].at)
		if soonest := last.Add(Pace); due.Before(soonest) {
			due = soonest
		}
		if err := wait(ctx, s, time.Until(due)); err != nil {
			return err
		}
		last = time.Now()
		for i+1 < len(way) && way[i+1].at <= last.Sub(start) {
			i++
		}
		p := way[i]
		err := r.Report(client.Fix{Point: p.point, Accuracy: 5, Speed: &p.speed, Heading: &p.heading})
		if err != nil {
			return err
		}
	}
	return nil
}

func wait(ctx context.Context, s *client.Session, d time.Duration) error {
	timer := time.NewTimer(max(0, d))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-s.Done():
		return s.Status().Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// guest signs up a guest whose name is free: the track's and a number.
func guest(ctx context.Context, api *client.API, track string) error {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return ' '
	}, track)
	name = strings.TrimSpace(name[:min(len(name), 26)])
	_, err := api.Guest(ctx, fmt.Sprintf("%s %04d", name, rand.IntN(10_000)), "muster replay")
	if refused, ok := errors.AsType[*client.Error](err); ok && refused.Status < 429 {
		_, err = api.Guest(ctx, "", "muster replay") // the server finds one
	}
	return err
}
