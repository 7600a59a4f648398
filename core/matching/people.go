package matching

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
)

// Person is somebody whom a viewer is shown.
type Person struct {
	User              core.UserID
	Username, Picture string
	Say               string
	Interests, Common []string
	Within            float64 // metres: they are no further away than that
	Minutes           int     // at most, since they were there
	Rating            core.Rating
	Relation          Relation

	Precision grant.Precision // that was read, for the receipt of it
}

// Page is what a viewer is shown.
type Page struct {
	People    []Person
	More      bool     // there are others, or may be
	Unreached []string // regions that could not be asked
}

// bucket is how long a round lasts, at least.
const bucket = 10 * time.Minute

// row is somebody near, as the database knows them.
type row struct {
	Candidate
	username, picture string
	round, before     int64 // in which they were shown
}

// Look is where somebody looks around.
type Look struct {
	At     *geo.Point // nil: where they are
	Radius float64    // metres; 0: what they chose
	Limit  int
}

// People returns whom a viewer is shown now, and notes that they were shown.
func (s *Store) People(ctx context.Context, user core.UserID, l Look) (page Page, err error) {
	began := time.Now()
	defer func() { s.metrics.looked(began, len(page.People), err) }()
	now := s.now()
	v := Viewer{User: user, Radius: l.Radius, Seed: s.cfg.Secret, Since: now}
	var r rounds
	if err := s.db.Read(ctx, func(ctx context.Context, q db.Querier) (err error) {
		v.Profile, r, err = readProfile(ctx, q, user)
		return err
	}); err != nil {
		return Page{}, fmt.Errorf("read matching profile: %w", err)
	}
	if !v.Profile.Open {
		return Page{}, ErrClosed
	}
	if l.Radius == 0 {
		v.Radius = float64(v.Profile.Radius)
	}
	if l.At != nil {
		v.At = *l.At
	} else if at, since, ok := s.cfg.Map.Own(user); !ok || now.Sub(since) > maxAge {
		return Page{}, ErrNoPosition
	} else {
		v.At, v.Since = at, since
	}
	v.Round = r.round
	if b := now.Unix() / int64(bucket/time.Second); b != r.bucket || r.round == 0 {
		v.Round, r.bucket = r.round+1, b
	}
	crowd, err := s.cfg.Map.Near(ctx, user, v.At, v.Radius)
	if err != nil {
		return Page{}, err
	}
	hidden, err := s.cfg.Blocks.Hidden(ctx, user)
	if err != nil {
		return Page{}, err
	}
	v.Hidden = make(map[core.UserID]bool, len(hidden))
	for _, id := range hidden {
		v.Hidden[id] = true
	}
	near, err := s.candidates(ctx, &v, crowd.Sights, now)
	if err != nil {
		return Page{}, err
	}
	ratings, err := s.ratings(ctx, append(idsOf(near), user))
	if err != nil {
		return Page{}, err
	}
	v.Ranking = ratings[user].Ranking()
	cs := make([]Candidate, 0, len(near))
	for id, c := range near {
		if c.Ranking = ratings[id].Ranking(); v.Eligible(&c.Candidate, now) {
			cs = append(cs, c.Candidate)
		}
	}
	v.Order(cs)
	page = Page{More: crowd.More || len(cs) > l.Limit, Unreached: crowd.Unreached}
	var fresh []core.UserID
	for _, c := range cs[:min(l.Limit, len(cs))] {
		of := near[c.User]
		page.People = append(page.People, Person{
			User: c.User, Username: of.username, Picture: of.picture, Say: c.Profile.Say, Interests: c.Profile.Interests,
			Common: common(v.Profile.Interests, c.Profile.Interests), Within: Class(v.At, c.View), Minutes: minutes(now.Sub(c.View.Captured)),
			Rating: ratings[c.User], Relation: c.Relation, Precision: c.View.Precision,
		})
		if of.round != v.Round {
			fresh = append(fresh, c.User)
		}
	}
	return page, s.shown(ctx, &v, r.bucket, fresh, now)
}

func idsOf(near map[core.UserID]row) []core.UserID {
	ids := make([]core.UserID, 0, len(near)+1)
	for id := range near {
		ids = append(ids, id)
	}
	return ids
}

// candidates reads who of those near has an open profile, and what there is
// between them and the viewer.
func (s *Store) candidates(ctx context.Context, v *Viewer, sights []Sight, now time.Time) (map[core.UserID]row, error) {
	views := make(map[core.UserID]grant.View, len(sights))
	ids := make([]uuid.UUID, len(sights))
	for i, x := range sights {
		views[x.User], ids[i] = x.View, uuid.UUID(x.User)
	}
	near := map[core.UserID]row{}
	err := s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		clear(near)
		rows, err := q.Query(ctx,
			`SELECT p.user_id, u.username, u.profile_picture, p.interests, p.min_rating, p.say, coalesce(s.round, 0), coalesce(s.before, 0),
			   CASE WHEN EXISTS (SELECT 1 FROM talks t WHERE (t.asker = $1 AND t.asked = p.user_id OR t.asker = p.user_id AND t.asked = $1) AND t.ended_at IS NULL) THEN 'talking'
			     WHEN EXISTS (SELECT 1 FROM talk_requests r WHERE r.asker = $1 AND r.asked = p.user_id AND r.state = 'open' AND r.expires_at > $3) THEN 'sent'
			     WHEN EXISTS (SELECT 1 FROM talk_requests r WHERE r.asker = p.user_id AND r.asked = $1 AND r.state = 'open' AND r.expires_at > $3) THEN 'received'
			     WHEN EXISTS (SELECT 1 FROM talk_requests r WHERE r.asker = $1 AND r.asked = p.user_id AND r.state = 'declined' AND r.answered_at > $4) THEN 'declined'
			     ELSE 'none' END
			 FROM matching_profiles p JOIN users u ON u.id = p.user_id LEFT JOIN matching_shown s ON s.viewer = $1 AND s.shown = p.user_id
			 WHERE p.user_id = ANY($2) AND p.open AND u.deleted_at IS NULL`, v.User, ids, now, now.Add(-declinedFor))
		if err != nil {
			return err
		}
		var c row
		_, err = pgx.ForEachRow(rows, []any{&c.User, &c.username, &c.picture, &c.Profile.Interests, &c.Profile.MinRating, &c.Profile.Say, &c.round, &c.before, &c.Relation}, func() error {
			one := c
			one.Profile.Open, one.View, one.Shown = true, views[c.User], c.round
			if c.round >= v.Round {
				one.Shown = c.before
			}
			near[c.User] = one
			c.Profile.Interests = nil // not shared with the next one
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read matching profiles: %w", err)
	}
	return near, nil
}

func (s *Store) ratings(ctx context.Context, users []core.UserID) (map[core.UserID]core.Rating, error) {
	if s.cfg.Ratings == nil {
		return nil, nil
	}
	r, err := s.cfg.Ratings.Ratings(ctx, users)
	if err != nil {
		return nil, fmt.Errorf("read ratings: %w", err)
	}
	return r, nil
}

// shown notes who was shown in a round for the first time.
func (s *Store) shown(ctx context.Context, v *Viewer, bucket int64, people []core.UserID, now time.Time) error {
	if len(people) == 0 {
		return nil
	}
	ids := make([]uuid.UUID, len(people))
	for i, p := range people {
		ids[i] = uuid.UUID(p)
	}
	return s.change(ctx, "note who was shown", func(ctx context.Context, tx pgx.Tx) error {
		// Of two who ask at once for one user the slower may find the round begun.
		if _, err := tx.Exec(ctx, `UPDATE matching_profiles SET round = $2, bucket = $3 WHERE user_id = $1 AND round < $2`, v.User, v.Round, bucket); err != nil {
			return err
		}
		_, err := tx.Exec(ctx,
			`INSERT INTO matching_shown (viewer, shown, round, shown_at) SELECT $1, u.id, $3, $4 FROM users u WHERE u.id = ANY($2)
			 ON CONFLICT (viewer, shown) DO UPDATE SET before = matching_shown.round, round = excluded.round, shown_at = excluded.shown_at
			 WHERE matching_shown.round < excluded.round`, v.User, ids, v.Round, now)
		return err
	})
}
