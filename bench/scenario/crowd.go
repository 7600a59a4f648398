package scenario

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mustermesh/muster/client"
)

const (
	setupAtOnce = 16               // users who sign up at once
	seeTimeout  = 60 * time.Second // until everybody sees everybody
)

// crowd is users who each are in one room.
type crowd struct {
	users    []*user
	roomSize int
	groups   []string          // id per room
	codes    []string          // by which others join them
	bases    map[string]string // of the API, by region; a user of another one uses the common base
	progress func(format string, args ...any)
}

// user is one sender and receiver.
type user struct {
	index    int
	region   string
	peers    []*user  // of the same room, without the user
	others   []string // regions of those, without the user's own
	byID     map[string]*user
	visitors map[string]*visitor // of the room, by user id
	id       string
	api      *client.API
	session  *client.Session
	room     *client.Room

	mu   sync.Mutex // guards the following
	last time.Time  // capture time of the last fix sent
	home [32]sighting
}

// sighting is when a fix was first seen in its sender's own region.
type sighting struct{ captured, at time.Time }

// seenAtHome notes that somebody of the user's own region has a fix.
func (u *user) seenAtHome(captured, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := &u.home[uint64(captured.UnixMicro())/997%uint64(len(u.home))]
	if !s.captured.Equal(captured) {
		*s = sighting{captured, now}
	}
}

// atHome returns when a fix was first seen in the user's own region.
func (u *user) atHome(captured time.Time) (time.Time, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.home[uint64(captured.UnixMicro())/997%uint64(len(u.home))]
	return s.at, s.captured.Equal(captured)
}

func newCrowd(users, roomSize int, progress func(string, ...any)) *crowd {
	c := &crowd{roomSize: roomSize, progress: progress, groups: make([]string, users/roomSize)}
	for i := range users {
		c.users = append(c.users, &user{index: i, byID: map[string]*user{}, visitors: map[string]*visitor{}})
	}
	return c
}

func (c *crowd) rooms() int { return len(c.groups) }

// mates are the users of a room.
func (c *crowd) mates(room int) []*user { return c.users[room*c.roomSize : (room+1)*c.roomSize] }

func (c *crowd) roomOf(u *user) string { return client.GroupRoom(c.groups[u.index/c.roomSize]) }

// signUp makes the users and a group per room with its users in it.
func (c *crowd) signUp(ctx context.Context, api string, pool *http.Client) error {
	if err := c.each(ctx, func(ctx context.Context, u *user) error {
		base := c.bases[u.region]
		if base == "" {
			base = api
		}
		u.api = client.NewAPI(base, client.APIConfig{HTTP: pool})
		return client.Patiently(ctx, func() error {
			creds, err := u.api.Guest(ctx, "", "muster bench")
			u.id = creds.UserID
			return err
		})
	}); err != nil {
		return fmt.Errorf("sign up: %w", err)
	}
	c.codes = make([]string, c.rooms())
	for _, u := range c.users {
		for _, m := range c.mates(u.index / c.roomSize) {
			u.byID[m.id] = m
			if m != u {
				u.peers = append(u.peers, m)
			}
		}
		u.others = others(u, u.peers)
	}
	err := c.each(ctx, func(ctx context.Context, u *user) error {
		if u.index%c.roomSize != 0 {
			return nil
		}
		room := u.index / c.roomSize
		return client.Patiently(ctx, func() error {
			g, err := u.api.CreateGroup(ctx, client.GroupDraft{Name: fmt.Sprintf("Bench %d", room+1)})
			c.groups[room], c.codes[room] = g.GroupID, g.InviteCode
			return err
		})
	})
	if err == nil {
		err = c.each(ctx, func(ctx context.Context, u *user) error {
			if u.index%c.roomSize == 0 {
				return nil
			}
			return client.Patiently(ctx, func() error {
				_, err := u.api.Join(ctx, c.codes[u.index/c.roomSize])
				return err
			})
		})
	}
	if err != nil {
		return fmt.Errorf("groups: %w", err)
	}
	return nil
}

// others lists the regions of some users that are not the given one's.
func others(u *user, of []*user) (list []string) {
	for _, m := range of {
		if m.region != u.region && !slices.Contains(list, m.region) {
			list = append(list, m.region)
		}
	}
	return list
}

// together waits until everybody sees everybody of their room.
func (c *crowd) together(ctx context.Context) error {
	err := c.until(ctx, seeTimeout, func(u *user) int {
		live := 0
		for _, m := range u.room.Members() {
			if m.Live() {
				live++
			}
		}
		return c.roomSize - live
	})
	if err != nil {
		return fmt.Errorf("not everybody sees everybody: %w", err)
	}
	return nil
}

// agree waits until everybody sees everybody live again, and returns how many
// pairs do not when the time is up. Who is abandoned is not waited for.
func (c *crowd) agree(ctx context.Context, limit time.Duration) (apart int, err error) {
	err = c.until(ctx, limit, func(u *user) int {
		live := 0
		for _, m := range u.room.Members() {
			if m.Live() && u.byID[m.User] != nil {
				live++
			}
		}
		return c.roomSize - live
	})
	if err != nil && ctx.Err() != nil {
		return 0, err
	}
	if err != nil {
		_, _ = fmt.Sscanf(err.Error(), "%d", &apart)
	}
	return apart, nil
}

// each does something for all users, several at once.
func (c *crowd) each(ctx context.Context, f func(ctx context.Context, u *user) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(setupAtOnce)
	for _, u := range c.users {
		g.Go(func() error { return f(ctx, u) })
	}
	return g.Wait()
}

// until waits until missing is 0 for every user.
func (c *crowd) until(ctx context.Context, limit time.Duration, missing func(*user) int) error {
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		total := 0
		for _, u := range c.users {
			total += missing(u)
		}
		if total == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d missing after %s", total, limit)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *crowd) leave() {
	var closing sync.WaitGroup
	for _, u := range c.users {
		if u.session != nil {
			closing.Go(u.session.Close)
		}
	}
	closing.Wait()
}
