package ratings

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/internal/errs"
)

func errsFrom(err error) (errs.Code, bool) {
	e, ok := errors.AsType[*errs.Error](err)
	if !ok {
		return "", false
	}
	return e.Code, true
}

// Whatever people do, several at once: what is kept with a user is the sum of what
// is revealed, and what is revealed is what may be.
func TestSumsEqualARecount(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("MUSTER_PROVE_RATINGS"))
	n = cmp.Or(n, 500)
	seed := rand.Uint64()
	t.Logf("%d operations, seed %d", n, seed)
	r := rand.New(rand.NewPCG(seed, 0))
	w := setup(t)
	type meeting struct {
		id     uuid.UUID
		people []core.UserID
	}
	var people []core.UserID
	var meetings []meeting
	newcomers := 0
	join := func() {
		newcomers++
		people = append(people, w.user(fmt.Sprintf("P %d", newcomers)))
	}
	for range 12 {
		join()
	}
	var mu sync.Mutex // guards done
	done := map[string]int{}
	count := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		done[what]++
	}
	const atOnce = 8
	for did := 0; did < n; did += atOnce {
		var wg sync.WaitGroup
		for range atOnce {
			switch what := r.IntN(100); {
			case what < 15 || len(meetings) == 0:
				r.Shuffle(len(people), func(i, j int) { people[i], people[j] = people[j], people[i] })
				m := meeting{uuid.New(), append([]core.UserID{}, people[:2+r.IntN(3)]...)}
				meetings = append(meetings, m)
				wg.Go(func() {
					assert.NoError(t, w.open(Encounter{ID: m.id, Kind: Hangout, People: m.people, At: w.clock()}))
				})
				count("open")
			case what < 18:
				w.advance(time.Duration(r.Int64N(int64(window / 2))))
				wg.Go(func() { assert.NoError(t, w.CloseDue(t.Context())) })
				count("close")
			case what < 20:
				i := r.IntN(len(people))
				who := people[i]
				people = append(people[:i], people[i+1:]...)
				join()
				step := r.IntN(2)
				wg.Go(func() { w.leave(who, step == 0) })
				count("leave")
			default:
				m := meetings[max(0, len(meetings)-20):][r.IntN(min(20, len(meetings)))]
				i := r.IntN(len(m.people))
				rater, ratee := m.people[i], m.people[(i+1+r.IntN(len(m.people)-1))%len(m.people)]
				stars := 1 + r.IntN(5)
				wg.Go(func() {
					_, err := w.Rate(t.Context(), rater, m.id, ratee, stars, "")
					code, _ := errsFrom(err)
					if err != nil && code != ErrRevealed.Code && code != ErrNoEncounter.Code && code != ErrNoUser.Code && code != db.ErrContended.Code {
						assert.NoError(t, err)
					}
					count(cmp.Or(string(code), "rate"))
				})
			}
		}
		wg.Wait()
		w.check()
	}
	t.Logf("%v, and %d ratings are revealed", done, len(w.rows(`SELECT id::TEXT FROM ratings WHERE revealed_at IS NOT NULL`)))
	require.Greater(t, done["rate"], n/5)
	require.Greater(t, done["rating_revealed"], 0)
}

// leave ends an account, as core/privacy does; erase deletes its row, too.
func (w *world) leave(who core.UserID, erase bool) {
	assert.NoError(w.t, w.db.InTx(w.t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE users SET deleted_at = now() WHERE id = $1`, who)
		return err
	}))
	steps := []string{`DELETE FROM encounter_people WHERE user_id = $1`, `DELETE FROM ratings WHERE ratee = $1`, `UPDATE ratings SET rater = NULL, text = '' WHERE rater = $1`}
	if erase {
		steps = append(steps, `DELETE FROM users WHERE id = $1`)
	}
	for _, sql := range steps { // each a transaction of its own
		assert.NoError(w.t, w.db.InTx(w.t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, sql, who)
			return err
		}), sql)
	}
}

// check holds what is always true.
func (w *world) check() {
	w.t.Helper()
	// Counted here, not by SQL.
	sums := map[string]core.Rating{}
	for _, row := range w.rows(`SELECT ratee::TEXT || ' ' || stars::TEXT FROM ratings WHERE revealed_at IS NOT NULL`) {
		var ratee string
		var stars int64
		_, err := fmt.Sscan(row, &ratee, &stars)
		require.NoError(w.t, err)
		sums[ratee] = core.Rating{Sum: sums[ratee].Sum + stars, Count: sums[ratee].Count + 1}
	}
	for _, row := range w.rows(`SELECT id::TEXT || ' ' || rating_sum::TEXT || ' ' || rating_count::TEXT FROM users WHERE deleted_at IS NULL`) {
		var id string
		var kept core.Rating
		_, err := fmt.Sscan(row, &id, &kept.Sum, &kept.Count)
		require.NoError(w.t, err)
		require.Equal(w.t, sums[id], kept, id)
	}
	_, wrong, err := w.Verify(w.t.Context())
	require.NoError(w.t, err)
	require.Empty(w.t, wrong)
	for what, sql := range map[string]string{
		"revealed though it is open and the other one has not rated": `SELECT r.id::TEXT FROM ratings r JOIN encounters e ON e.id = r.encounter_id
			WHERE r.revealed_at IS NOT NULL AND e.closed_at IS NULL AND r.rater IS NOT NULL
			AND NOT EXISTS (SELECT 1 FROM ratings o WHERE o.encounter_id = r.encounter_id AND o.rater = r.ratee AND (o.ratee = r.rater))
			AND EXISTS (SELECT 1 FROM users u WHERE u.id = r.rater AND u.deleted_at IS NULL)`,
		"hidden though both have rated": `SELECT r.id::TEXT FROM ratings r WHERE r.revealed_at IS NULL
			AND EXISTS (SELECT 1 FROM ratings o WHERE o.encounter_id = r.encounter_id AND o.rater = r.ratee AND o.ratee = r.rater)`,
		"hidden though it is closed": `SELECT r.id::TEXT FROM ratings r JOIN encounters e ON e.id = r.encounter_id WHERE r.revealed_at IS NULL AND e.closed_at IS NOT NULL`,
	} {
		require.Empty(w.t, w.rows(sql), what)
	}
}
