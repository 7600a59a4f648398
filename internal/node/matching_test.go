package node

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/peer"
	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/core/friends"
	"github.com/mustermesh/muster/core/location"
	"github.com/mustermesh/muster/core/matching"
	"github.com/mustermesh/muster/core/ratings"
	"github.com/mustermesh/muster/core/users"
	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/edge/nearby"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/regions"
)

// lonely is the roster and the links of a node that is alone.
type lonely struct{}

func (lonely) Current() bool                                                { return true }
func (lonely) Slot(int) (regions.NodeID, regions.Epoch)                     { return "n", 1 }
func (lonely) SlotIn(regions.RegionID, int) (regions.NodeID, regions.Epoch) { return "n", 1 }
func (lonely) RegionOf(regions.NodeID) regions.RegionID                     { return "r" }
func (lonely) Send(regions.NodeID, *peer.Frame)                             {}
func (lonely) Call(context.Context, regions.NodeID, *peer.Call) (*peer.Answer, error) {
	return nil, fmt.Errorf("nobody else is there")
}

// soul is one of those whom the oracle knows all about.
type soul struct {
	id      core.UserID
	own     geo.Point // where they are
	located time.Time // zero: their device denies it
	shown   bool      // on the map
	view    grant.View
	profile matching.Profile
	stars   core.Rating
	deleted bool
}

// TestMatchingAgainstAnOracle has people of a city look around, on the real map and
// the real database: of 10,000 a third deny permission, a third are stale, and
// profiles, blocks, ratings and radii are random. Whom they are shown must be those
// whom a loop over everybody finds.
func TestMatchingAgainstAnOracle(t *testing.T) {
	const people, towns = 10_000, 200
	looks := 100
	if s := os.Getenv("MUSTER_PROVE_MATCHING"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(t, err)
		looks *= n
	}
	rng := rand.New(rand.NewPCG(7, 7))
	d, now := devdb.Test(t), time.Now().UTC().Truncate(time.Microsecond)
	souls, blocked := city(t, rng, people, towns, now), map[[2]core.UserID]bool{}
	for len(blocked) < 2*people { // of those who meet
		a, b := rng.IntN(people), rng.IntN(people)
		if b = b - b%towns + a%towns; a != b && b < people { // of the same town
			blocked[[2]core.UserID{souls[a].id, souls[b].id}] = true
		}
	}
	settle(t, d, souls, blocked)

	top := &regions.Topology{Regions: []regions.Region{{Name: "r", Nodes: []regions.Node{{ID: "n"}}}}}
	friendships := friends.New(d, friends.Config{})
	places := nearby.New(nearby.Config{Self: "n", Region: "r", Roster: lonely{}, Topology: func() *regions.Topology { return top }, Links: lonely{}, Blocks: newBlocks(friendships)})
	own := map[string]*soul{}
	for i := range souls {
		s := &souls[i]
		own[s.id.String()] = s
		if s.shown {
			places.Put(s.id.String(), "x", s.view, now.Add(2*time.Hour))
		}
	}
	rated := ratings.New(d, users.New(d, time.Now), ratings.Config{})
	store := matching.New(d, matching.Config{
		Map: vicinity{func(user string) (grant.Raw, bool) {
			s := own[user]
			raw, err := grant.NewRaw(s.own, 5, grant.Reading{}, grant.Reading{}, grant.Reading{}, s.located)
			return raw, err == nil && !s.located.IsZero()
		}, places.Crowd},
		Blocks: friendships, Ratings: rated, Secret: []byte("secret"), Now: func() time.Time { return now },
	})

	counts := map[string]int{}
	for range looks {
		v := &souls[rng.IntN(people)]
		look := matching.Look{Limit: people}
		if rng.IntN(2) == 0 {
			look.Radius = 500 + rng.Float64()*9500
		}
		if rng.IntN(3) == 0 {
			look.At = new(geo.Destination(souls[rng.IntN(people)].own, rng.Float64()*360, rng.Float64()*3000))
		}
		page, err := store.People(t.Context(), v.id, look)
		want, refused := oracle(souls, blocked, v, look, now)
		if refused != nil {
			require.ErrorIs(t, err, refused)
			counts["refused"]++
			continue
		}
		require.NoError(t, err)
		require.False(t, page.More)
		got := make([]core.UserID, len(page.People))
		for i, p := range page.People {
			got[i] = p.User
			require.Less(t, -1.0, p.Within-geo.Distance(at(v, look), own[p.User.String()].view.Point), "they are no further away than that")
		}
		byID := func(a, b core.UserID) int { return slices.Compare(a[:], b[:]) }
		require.Equal(t, slices.SortedFunc(slices.Values(want), byID), slices.SortedFunc(slices.Values(got), byID))
		counts["looks"]++
		counts["people"] += len(got)
		if len(got) == 0 {
			counts["nobody"]++
		}
	}
	require.Greater(t, counts["people"], counts["looks"])
	t.Logf("%d people: %d looks, %d of which met nobody, were shown %d people; %d were refused", people, counts["looks"], counts["nobody"], counts["people"], counts["refused"])
}

// city makes people in towns.
func city(t *testing.T, rng *rand.Rand, people, towns int, now time.Time) []soul {
	words := []string{"chess", "climbing", "cooking", "dogs", "films", "go", "hiking", "jazz", "running", "tea", "theatre", "trains"}
	middle := geo.Point{Lat: 48.2, Lng: 16.37}
	town := make([]geo.Point, towns)
	for i := range town {
		town[i] = geo.Destination(middle, rng.Float64()*360, 40_000*math.Sqrt(rng.Float64())) // or the middle would be a crowd of thousands
	}
	souls := make([]soul, people)
	for i := range souls {
		s := &souls[i]
		s.id = core.UserID(uuid.New())
		s.own = geo.Destination(town[i%towns], rng.Float64()*360, 1500*rng.Float64())
		s.profile = matching.Profile{
			Open: rng.IntN(6) > 0, Interests: []string{}, Radius: 500 + rng.IntN(9500), MaxAge: time.Duration(60+rng.IntN(1740)) * time.Second,
			MinRating: []float64{0, 0, 0, 2.5, 3, 3.2, 4}[rng.IntN(7)],
		}
		for _, w := range words {
			if rng.IntN(5) == 0 {
				s.profile.Interests = append(s.profile.Interests, w)
			}
		}
		if s.stars.Count = int64(max(0, rng.IntN(30)-8)); s.stars.Count > 0 {
			s.stars.Sum = s.stars.Count + rng.Int64N(4*s.stars.Count+1)
		}
		s.deleted = rng.IntN(50) == 0
		switch i / towns % 3 {
		case 0: // denies permission
			continue
		case 1: // went stale
			s.located = now.Add(-time.Duration(1+rng.IntN(50)) * time.Minute)
		default:
			s.located = now.Add(-time.Duration(rng.IntN(50)) * time.Second)
		}
		if rng.IntN(10) == 0 {
			continue // looks, and shares with nobody
		}
		audience, precision, life := grant.Audience{Kind: grant.Discoverable}, grant.Exact, edge.FixLife
		if rng.IntN(2) == 0 {
			precision, life = grant.Cells(6+rng.IntN(5)), edge.FixLife+edge.CoarseLife
		}
		set, err := grant.NewSet([]grant.Grant{{Audience: audience, Precision: precision}}, nil, false)
		require.NoError(t, err)
		raw, err := grant.NewRaw(s.own, 5, grant.Reading{}, grant.Reading{}, grant.Reading{}, s.located)
		require.NoError(t, err)
		at := grant.NewSnapper([]byte("secret"), s.id.String())
		_, err = at.Take(raw, s.located)
		require.NoError(t, err)
		s.view, s.shown = set.View(s.located, at, audience)
		s.shown = s.shown && now.Before(s.view.Captured.Add(life))
	}
	return souls
}

// settle writes them into the database.
func settle(t *testing.T, d *db.DB, souls []soul, blocked map[[2]core.UserID]bool) {
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		var all [][]any
		var profiles [][]any
		for _, s := range souls {
			var deleted *time.Time
			if s.deleted {
				deleted = new(time.Now())
			}
			all = append(all, []any{s.id, s.id.String()[:18], s.id.String()[:18], true, "eu-west", s.stars.Sum, s.stars.Count, deleted})
			p := s.profile
			profiles = append(profiles, []any{s.id, p.Open, p.Interests, p.Radius, int(p.MaxAge.Seconds()), p.MinRating})
		}
		var pairs [][]any
		for p := range blocked {
			pairs = append(pairs, []any{p[0], p[1]})
		}
		for _, c := range []struct {
			table   string
			columns []string
			rows    [][]any
		}{
			{"users", []string{"id", "username", "username_key", "guest", "home_region", "rating_sum", "rating_count", "deleted_at"}, all},
			{"matching_profiles", []string{"user_id", "open", "interests", "radius", "max_age", "min_rating"}, profiles},
			{"blocks", []string{"blocker", "blocked"}, pairs},
		} {
			if _, err := tx.CopyFrom(ctx, pgx.Identifier{c.table}, c.columns, pgx.CopyFromRows(c.rows)); err != nil {
				return fmt.Errorf("%s: %w", c.table, err)
			}
		}
		return nil
	}))
}

// at is where somebody looks around.
func at(v *soul, look matching.Look) geo.Point {
	if look.At != nil {
		return *look.At
	}
	return v.own
}

// oracle says whom somebody is shown, by what the words say.
func oracle(souls []soul, blocked map[[2]core.UserID]bool, v *soul, look matching.Look, now time.Time) (shown []core.UserID, refused error) {
	if !v.profile.Open {
		return nil, matching.ErrClosed
	}
	if look.At == nil && (v.located.IsZero() || now.Sub(v.located) > 30*time.Minute) {
		return nil, matching.ErrNoPosition
	}
	radius := cmp.Or(look.Radius, float64(v.profile.Radius))
	for i := range souls {
		s := &souls[i]
		if s.id == v.id || s.deleted || !s.shown || !s.profile.Open {
			continue
		}
		if blocked[[2]core.UserID{v.id, s.id}] || blocked[[2]core.UserID{s.id, v.id}] {
			continue
		}
		if now.Sub(s.view.Captured) > v.profile.MaxAge || geo.Distance(at(v, look), s.view.Point) > radius {
			continue
		}
		if s.stars.Ranking() < v.profile.MinRating || v.stars.Ranking() < s.profile.MinRating {
			continue
		}
		shown = append(shown, s.id)
	}
	return shown, nil
}

// TestATalkIsAConversation: accepting makes one in which both write, and however it
// ends (a talk's end, leaving the room, a block) both have ended, and may be rated.
func TestATalkIsAConversation(t *testing.T) {
	d, secret := devdb.Test(t), []byte("0123456789abcdef0123456789abcdef")
	log := slog.New(slog.DiscardHandler)
	where, err := location.New(d, secret, location.Config{})
	require.NoError(t, err)
	w, cfg := newWork(d, log, nil, nil), &Config{DB: d, Secret: secret}
	talks, err := newConversations(cfg, "eu-west", where, &membershipAnnouncer{log: log}, nil, w, log)
	require.NoError(t, err)
	parted := &partings{Store: where}
	friendships := friends.New(d, friends.Config{Sharing: parted})
	parted.also(talks.Parted)
	rated := ratings.New(d, users.New(d, time.Now), ratings.Config{})
	ana, bo := soul{id: core.UserID(uuid.New())}, soul{id: core.UserID(uuid.New())}
	for _, s := range []*soul{&ana, &bo} {
		s.profile = matching.Closed()
		s.profile.Open, s.own = true, geo.Point{Lat: 45, Lng: 13}
	}
	settle(t, d, []soul{ana, bo}, nil)
	store := matching.New(d, matching.Config{
		Map: vicinity{crowd: func(_ context.Context, viewer string, at geo.Point, _ float64) (edge.Nearby, error) {
			var out edge.Nearby
			for _, s := range []soul{ana, bo} {
				if s.id.String() != viewer {
					out.People = append(out.People, edge.Neighbour{User: s.id.String(), View: grant.View{Point: at, Captured: time.Now()}})
				}
			}
			return out, nil
		}},
		Blocks: friendships, Ratings: rated, Talks: talks, Meetings: meetings{rated},
	})
	parted.also(store.Parted)
	talks.ended = store.Ended
	encounters := 0
	for name, end := range map[string]func(room string, talk uuid.UUID) error{
		"the talk's end": func(_ string, talk uuid.UUID) error { return store.End(t.Context(), ana.id, talk) },
		"leaving":        func(room string, _ uuid.UUID) error { return talks.Leave(t.Context(), bo.id, room) },
		"a block": func(string, uuid.UUID) error {
			if err := friendships.Block(t.Context(), ana.id, bo.id); err != nil {
				return err
			}
			return friendships.Unblock(t.Context(), ana.id, bo.id)
		},
	} {
		_, err := store.People(t.Context(), ana.id, matching.Look{At: &ana.own, Limit: 10})
		require.NoError(t, err)
		asked, err := store.Request(t.Context(), ana.id, bo.id, "")
		require.NoError(t, err, name)
		room, err := store.Accept(t.Context(), bo.id, asked.ID)
		require.NoError(t, err)
		for _, who := range []core.UserID{ana.id, bo.id} {
			s, err := talks.Standing(t.Context(), who, room, 0)
			require.NoError(t, err)
			require.True(t, s.Writes)
		}
		require.NoError(t, end(room, asked.ID))
		s, err := talks.Standing(t.Context(), ana.id, room, 0)
		require.NoError(t, err, name)
		require.False(t, s.Writes, name)
		_, err = store.Accept(t.Context(), bo.id, asked.ID)
		require.ErrorIs(t, err, matching.ErrNoRequest, "%s: the talk is over, too", name)
		encounters++
		list, _, err := rated.Pending(t.Context(), bo.id, "", 10)
		require.NoError(t, err)
		require.Len(t, list, encounters, name)
	}
}
