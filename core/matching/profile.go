package matching

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// Profile is what a user chose about meeting people nearby.
type Profile struct {
	Open      bool // finds people, and is found
	Interests []string
	Radius    int           // metres, to look around in
	MaxAge    time.Duration // of others' positions
	MinRating float64       // least ranking of those who are met; 0: any
	Say       string        // to whom they are shown
}

const (
	maxInterests = 20
	maxInterest  = 40 // characters
	maxSay       = 280
	minRadius    = 500
	maxRadius    = 50_000
	minAge       = time.Minute
	maxAge       = 30 * time.Minute // no position is shown for longer
)

// Closed is what holds for who never chose.
func Closed() Profile {
	return Profile{Interests: []string{}, Radius: 5000, MaxAge: 15 * time.Minute}
}

// checked returns a profile as it is kept: interests in lower case, each once,
// sorted.
func (p Profile) checked() (Profile, error) {
	words := make([]string, len(p.Interests))
	for i, w := range p.Interests {
		var ok bool
		if words[i], ok = core.CleanText(strings.Join(strings.Fields(strings.ToLower(w)), " "), 1, maxInterest, false); !ok {
			return p, ErrBadProfile
		}
	}
	slices.Sort(words)
	p.Interests = slices.Compact(words)
	var ok bool
	if p.Say, ok = core.CleanText(p.Say, 0, maxSay, true); !ok || len(p.Interests) > maxInterests ||
		p.Radius < minRadius || p.Radius > maxRadius || p.MaxAge < minAge || p.MaxAge > maxAge || !(p.MinRating >= 0 && p.MinRating <= 5) {
		return p, ErrBadProfile
	}
	p.MaxAge = p.MaxAge.Truncate(time.Second)
	return p, nil
}

// Profile returns what a user chose.
func (s *Store) Profile(ctx context.Context, user core.UserID) (p Profile, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) (err error) {
		p, _, err = readProfile(ctx, q, user)
		return err
	})
	if err != nil {
		return p, fmt.Errorf("read matching profile: %w", err)
	}
	return p, nil
}

// rounds are how often somebody has looked around.
type rounds struct{ round, bucket int64 }

func readProfile(ctx context.Context, q db.Querier, user core.UserID) (p Profile, r rounds, err error) {
	var age int
	err = q.QueryRow(ctx, `SELECT open, interests, radius, max_age, min_rating, say, round, bucket FROM matching_profiles WHERE user_id = $1`, user).
		Scan(&p.Open, &p.Interests, &p.Radius, &age, &p.MinRating, &p.Say, &r.round, &r.bucket)
	if errors.Is(err, pgx.ErrNoRows) {
		return Closed(), r, nil
	}
	p.MaxAge = time.Duration(age) * time.Second
	return p, r, err
}

// SetProfile changes what a user chose. Who closes it takes their open requests
// back and declines those that they have; talks go on.
func (s *Store) SetProfile(ctx context.Context, user core.UserID, p Profile) (Profile, error) {
	p, err := p.checked()
	if err != nil {
		return p, err
	}
	err = s.change(ctx, "change matching profile", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx,
			`INSERT INTO matching_profiles (user_id, open, interests, radius, max_age, min_rating, say) VALUES ($1, $2, $3, $4, $5, $6, $7)
			 ON CONFLICT (user_id) DO UPDATE SET open = excluded.open, interests = excluded.interests, radius = excluded.radius,
			   max_age = excluded.max_age, min_rating = excluded.min_rating, say = excluded.say`,
			user, p.Open, p.Interests, p.Radius, int(p.MaxAge.Seconds()), p.MinRating, p.Say)
		if err != nil || p.Open {
			return err
		}
		return s.close(ctx, tx, user, core.UserID{})
	})
	return p, err
}
