package matching

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/geo/grant"
)

func TestProfile(t *testing.T) {
	w := setup(t)
	ana := w.user()
	p, err := w.Profile(t.Context(), ana)
	require.NoError(t, err)
	require.Equal(t, Closed(), p)
	want := Profile{Open: true, Interests: []string{"  Board   Games ", "Şarkı", "board games"}, Radius: 700, MaxAge: 2 * time.Minute, MinRating: 3.5, Say: " hi "}
	got, err := w.SetProfile(t.Context(), ana, want)
	require.NoError(t, err)
	want.Interests, want.Say = []string{"board games", "şarkı"}, "hi"
	require.Equal(t, want, got)
	got, err = w.Profile(t.Context(), ana)
	require.NoError(t, err)
	require.Equal(t, want, got)
	for name, spoil := range map[string]func(p *Profile){
		"no word": func(p *Profile) { p.Interests = []string{" "} }, "long word": func(p *Profile) { p.Interests = []string{strings.Repeat("x", 41)} },
		"control": func(p *Profile) { p.Interests = []string{"a\x00"} },
		"many": func(p *Profile) {
			p.Interests = nil
			for i := range 21 {
				p.Interests = append(p.Interests, fmt.Sprint(i))
			}
		},
		"narrow": func(p *Profile) { p.Radius = 499 }, "wide": func(p *Profile) { p.Radius = 50_001 }, "young": func(p *Profile) { p.MaxAge = time.Second },
		"old": func(p *Profile) { p.MaxAge = time.Hour }, "rating": func(p *Profile) { p.MinRating = 5.1 }, "say": func(p *Profile) { p.Say = strings.Repeat("x", 281) },
	} {
		bad := want
		spoil(&bad)
		_, err := w.SetProfile(t.Context(), ana, bad)
		require.ErrorIs(t, err, ErrBadProfile, name)
	}
}

func TestFromARequestToTheEndOfATalk(t *testing.T) {
	w := setup(t)
	ctx := t.Context()
	ana, bo := w.person("chess", "tea"), w.person("tea")
	_, err := w.Request(ctx, ana, bo, "")
	require.ErrorIs(t, err, ErrNobody, "not shown yet")
	page, err := w.People(ctx, ana, Look{Limit: 10})
	require.NoError(t, err)
	require.Equal(t, []Person{{User: bo, Username: bo.String()[:18], Interests: []string{"tea"}, Common: []string{"tea"}, Within: 500, Minutes: 1, Relation: None, Precision: grant.Exact}}, page.People)
	require.False(t, page.More)

	asked, err := w.Request(ctx, ana, bo, " coffee? ")
	require.NoError(t, err)
	require.Empty(t, asked.Room)
	require.Equal(t, []string{fmt.Sprintf("notify %s talk_request %s", bo, ana)}, w.told())
	again, err := w.Request(ctx, ana, bo, "now?")
	require.NoError(t, err)
	require.Equal(t, asked, again)
	require.Empty(t, w.told(), "again is nothing")
	for _, dir := range []struct {
		who, other core.UserID
		sent       bool
	}{{ana, bo, true}, {bo, ana, false}} {
		list, next, err := w.Requests(ctx, dir.who, dir.sent, "", 10)
		require.NoError(t, err)
		require.Empty(t, next)
		require.Len(t, list, 1)
		require.Equal(t, []any{asked.ID, dir.other, "coffee?"}, []any{list[0].ID, list[0].User, list[0].Say})
		list, _, err = w.Requests(ctx, dir.who, !dir.sent, "", 10)
		require.NoError(t, err)
		require.Empty(t, list)
	}
	relation := func(u core.UserID) Relation {
		page, err := w.People(ctx, u, Look{Limit: 10})
		require.NoError(t, err)
		return page.People[0].Relation
	}
	require.Equal(t, Sent, relation(ana))
	require.Equal(t, Received, relation(bo))

	_, err = w.Accept(ctx, ana, asked.ID)
	require.ErrorIs(t, err, ErrNoRequest, "one's own")
	_, err = w.Accept(ctx, bo, uuid.New())
	require.ErrorIs(t, err, ErrNoRequest)
	w.fails = errTold
	_, err = w.Accept(ctx, bo, asked.ID)
	require.ErrorIs(t, err, errTold)
	w.fails = nil
	require.Equal(t, Received, relation(bo), "all or nothing")
	room, err := w.Accept(ctx, bo, asked.ID)
	require.NoError(t, err)
	require.Equal(t, "nearby:"+asked.ID.String(), room)
	require.Equal(t, []string{fmt.Sprintf("create %s [%s %s] eu-west", room, ana, bo), fmt.Sprintf("notify %s talk_accepted %s", ana, bo)}, w.told())
	_, err = w.Accept(ctx, bo, asked.ID)
	require.NoError(t, err, "again")
	require.ErrorIs(t, w.Decline(ctx, bo, asked.ID), ErrNoRequest)
	require.ErrorIs(t, w.Cancel(ctx, ana, asked.ID), ErrNoRequest)
	require.Empty(t, w.told())
	require.Equal(t, Talking, relation(ana))
	again, err = w.Request(ctx, bo, ana, "")
	require.NoError(t, err)
	require.Equal(t, Asked{asked.ID, room}, again, "they talk")

	require.ErrorIs(t, w.End(ctx, w.user(), asked.ID), ErrNoTalk)
	require.ErrorIs(t, w.End(ctx, ana, uuid.New()), ErrNoTalk)
	require.NoError(t, w.End(ctx, ana, asked.ID))
	require.NoError(t, w.End(ctx, bo, asked.ID), "again")
	require.Equal(t, []string{fmt.Sprintf("end %s %s", room, ana), fmt.Sprintf("met %s [%s %s]", asked.ID, ana, bo)}, w.told())
	_, err = w.Accept(ctx, bo, asked.ID)
	require.ErrorIs(t, err, ErrNoRequest, "it is over")
	require.Equal(t, []string{"talk.requested", "talk.accepted", "talk.ended"}, w.heard(ana))
	require.Equal(t, w.heard(ana), w.heard(bo))
	require.Equal(t, None, relation(ana))
}

func TestWhoAsksBackAccepts(t *testing.T) {
	w := setup(t)
	ana, bo := w.person(), w.person()
	id := w.asks(ana, bo)
	got, err := w.Request(t.Context(), bo, ana, "")
	require.NoError(t, err, "bo was not shown her, but asked by her")
	require.Equal(t, Asked{id, Room(id)}, got)
	require.Equal(t, []string{"talk.requested", "talk.accepted"}, w.heard(bo))
}

func TestDeclinedAndCanceled(t *testing.T) {
	w := setup(t)
	ctx := t.Context()
	ana, bo, cy := w.person(), w.person(), w.person()
	id := w.asks(ana, bo)
	require.ErrorIs(t, w.Decline(ctx, ana, id), ErrNoRequest)
	require.NoError(t, w.Decline(ctx, bo, id))
	require.NoError(t, w.Decline(ctx, bo, id), "again")
	require.ErrorIs(t, w.Cancel(ctx, ana, id), ErrNoRequest)
	_, err := w.Request(ctx, ana, bo, "please")
	require.ErrorIs(t, err, ErrDeclined)
	require.Equal(t, []core.UserID{cy, bo}, w.looks(ana), "who declined comes last")
	w.asks(bo, ana) // the other way round is for bo to say
	require.NoError(t, w.Cancel(ctx, bo, rows[uuid.UUID](w, `SELECT id FROM talk_requests WHERE state = 'open'`)[0]))
	require.Equal(t, []string{"talk.requested", "talk.declined", "talk.requested", "talk.canceled"}, w.heard(ana))

	w.advance(declinedFor)
	w.at(ana, square, grant.Exact)
	w.at(bo, square, grant.Exact)
	require.Equal(t, []core.UserID{bo}, w.looks(ana), "cy's position is old")
	w.asks(ana, bo)
}

func TestOnlyWhoWasShownOfLateIsAsked(t *testing.T) {
	w := setup(t)
	ctx := t.Context()
	ana, bo := w.person(), w.person()
	closed := w.user()
	w.at(closed, square, grant.Exact)
	require.Equal(t, []core.UserID{bo}, w.looks(ana))
	for _, id := range []core.UserID{closed, core.UserID(uuid.New())} {
		_, err := w.Request(ctx, ana, id, "")
		require.ErrorIs(t, err, ErrNobody)
	}
	_, err := w.Request(ctx, ana, ana, "")
	require.ErrorIs(t, err, ErrSelf)
	_, err = w.Request(ctx, ana, bo, strings.Repeat("x", 281))
	require.ErrorIs(t, err, ErrBadSay)
	_, err = w.Request(ctx, closed, bo, "")
	require.ErrorIs(t, err, ErrClosed)
	_, err = w.People(ctx, closed, Look{Limit: 10})
	require.ErrorIs(t, err, ErrClosed)
	w.advance(ShownFor + bucket)
	_, err = w.Request(ctx, ana, bo, "")
	require.ErrorIs(t, err, ErrNobody)
	_, err = w.People(ctx, ana, Look{Limit: 10})
	require.ErrorIs(t, err, ErrNoPosition, "it is old")
}

func TestLimits(t *testing.T) {
	w := setup(t)
	ctx := t.Context()
	ana := w.person()
	// ask asks somebody new.
	ask := func() (core.UserID, uuid.UUID, error) {
		id := w.person()
		w.exec(`INSERT INTO matching_shown (viewer, shown, round, shown_at) VALUES ($1, $2, 1, $3)`, ana, id, w.clock())
		a, err := w.Request(ctx, ana, id, "")
		return id, a.ID, err
	}
	var open []uuid.UUID
	for range maxOpen {
		_, id, err := ask()
		require.NoError(t, err)
		open = append(open, id)
	}
	_, _, err := ask()
	require.ErrorIs(t, err, ErrManyRequests)
	for n := maxOpen; n < maxDaily; n++ {
		require.NoError(t, w.Cancel(ctx, ana, open[0]))
		_, id, err := ask()
		require.NoError(t, err)
		open = append(open[1:], id)
	}
	require.NoError(t, w.Cancel(ctx, ana, open[0]))
	_, _, err = ask()
	require.ErrorIs(t, err, ErrRequestRate)

	w.exec(`INSERT INTO talks (id, asker, asked, opened_at, expires_at) SELECT gen_random_uuid(), $1, $2, $3, $3 FROM generate_series(1, $4::INT)`, ana, w.user(), w.clock(), maxTalks)
	bo := w.person()
	id := w.asks(bo, ana)
	_, err = w.Accept(ctx, ana, id)
	require.ErrorIs(t, err, ErrManyTalks)
}

func TestABlockEndsAll(t *testing.T) {
	w := setup(t)
	ctx := t.Context()
	ana, bo, cy := w.person(), w.person(), w.person()
	id := w.asks(ana, bo)
	_, err := w.Accept(ctx, bo, id)
	require.NoError(t, err)
	w.asks(cy, bo)
	w.told()
	w.block(bo, ana)
	require.Equal(t, []string{fmt.Sprintf("end %s %s", Room(id), bo), fmt.Sprintf("met %s [%s %s]", id, ana, bo)}, w.told())
	require.Equal(t, []core.UserID{cy}, w.looks(ana))
	_, err = w.Request(ctx, ana, bo, "")
	require.ErrorIs(t, err, ErrNobody)
	_, err = w.Request(ctx, bo, ana, "")
	require.ErrorIs(t, err, ErrNobody)
	w.block(cy, bo)
	list, _, err := w.Requests(ctx, bo, false, "", 10)
	require.NoError(t, err)
	require.Empty(t, list)
	require.Equal(t, "talk.canceled", w.heard(cy)[1])

	// A block that nobody has told of yet.
	dan := w.person()
	id = w.asks(dan, ana)
	w.exec(`INSERT INTO blocks (blocker, blocked) VALUES ($1, $2)`, ana, dan)
	_, err = w.Accept(ctx, ana, id)
	require.ErrorIs(t, err, ErrNoRequest)
	require.NoError(t, w.Decline(ctx, ana, id))
}

func TestWhoClosesTheirProfileHasNoRequests(t *testing.T) {
	w := setup(t)
	ana, bo, cy := w.person(), w.person(), w.person()
	id := w.asks(ana, bo)
	w.asks(cy, ana)
	_, err := w.SetProfile(t.Context(), ana, Closed())
	require.NoError(t, err)
	require.Equal(t, []string{"talk.requested", "talk.canceled"}, w.heard(bo))
	require.Equal(t, []string{"talk.requested", "talk.declined"}, w.heard(cy))
	_, err = w.Accept(t.Context(), bo, id)
	require.ErrorIs(t, err, ErrNoRequest)
	require.Equal(t, []core.UserID{cy}, w.looks(bo))
	p := Closed()
	p.Open = true
	_, err = w.SetProfile(t.Context(), ana, p)
	require.NoError(t, err)
	w.asks(cy, ana) // it was nobody's no
}

func TestTimeIsOver(t *testing.T) {
	w := setup(t)
	ctx := t.Context()
	ana, bo, cy := w.person(), w.person(), w.person()
	id := w.asks(ana, bo)
	talk := w.asks(ana, cy)
	_, err := w.Accept(ctx, cy, talk)
	require.NoError(t, err)
	w.told()
	w.advance(requestLife)
	// Before anybody has said so.
	_, err = w.Accept(ctx, bo, id)
	require.ErrorIs(t, err, ErrNoRequest)
	list, _, err := w.Requests(ctx, ana, true, "", 10)
	require.NoError(t, err)
	require.Empty(t, list)
	w.at(ana, square, grant.Exact)
	w.at(bo, square, grant.Exact)
	w.asks(ana, bo) // again: it takes the old one out of the way
	w.told()
	require.NoError(t, w.Expire(ctx))
	require.Equal(t, []string{fmt.Sprintf("end %s %s", Room(talk), core.UserID{}), fmt.Sprintf("met %s [%s %s]", talk, ana, cy)}, w.told())
	require.Equal(t, []string{"talk.requested", "talk.canceled", "talk.requested"}, w.heard(bo))
	require.Equal(t, []string{"talk.requested", "talk.accepted", "talk.ended"}, w.heard(cy))
	w.advance(requestLife)
	require.NoError(t, w.Expire(ctx))
	require.Equal(t, []string{"talk.requested", "talk.canceled", "talk.requested", "talk.canceled"}, w.heard(bo))
	w.advance(keep)
	require.NoError(t, w.Sweep(ctx))
	for _, table := range []string{"talk_requests", "talks", "matching_shown"} {
		require.Equal(t, []int64{0}, rows[int64](w, `SELECT count(*) FROM `+table), table)
	}
}

func TestWhoLeavesTheRoomEndsTheTalk(t *testing.T) {
	w := setup(t)
	ana, bo := w.person(), w.person()
	id := w.asks(ana, bo)
	_, err := w.Accept(t.Context(), bo, id)
	require.NoError(t, err)
	w.told()
	leave := func(room string) {
		w.inTx(func(ctx context.Context, tx pgx.Tx) error { return w.Ended(ctx, tx, room, bo) })
	}
	leave("direct:" + id.String())
	leave(Room(uuid.New()))
	require.Empty(t, w.told())
	leave(Room(id))
	require.Equal(t, []string{fmt.Sprintf("end %s %s", Room(id), bo), fmt.Sprintf("met %s [%s %s]", id, ana, bo)}, w.told())
	leave(Room(id))
	require.Empty(t, w.told())
}

// TestAtOnce has two people ask, accept, decline, cancel and end in all ways at
// once: there is never more than one talk, nor a request beside it, and each talk
// was made and ended exactly once.
func TestAtOnce(t *testing.T) {
	w := setup(t)
	ctx := t.Context()
	ana, bo := w.person(), w.person()
	for round := range 10 {
		w.looks(ana)
		w.looks(bo)
		var wg sync.WaitGroup
		for _, p := range [][2]core.UserID{{ana, bo}, {bo, ana}} {
			for range 3 {
				wg.Go(func() {
					a, err := w.Request(ctx, p[0], p[1], "")
					if err != nil {
						return
					}
					if _, err = w.Accept(ctx, p[1], a.ID); err == nil && round%2 == 0 {
						_ = w.End(ctx, p[0], a.ID)
					}
				})
			}
		}
		wg.Wait()
		require.LessOrEqual(t, rows[int64](w, `SELECT count(*) FROM talks WHERE ended_at IS NULL`)[0], int64(1))
		require.NoError(t, w.Store.change(ctx, "part", func(ctx context.Context, tx pgx.Tx) error { return w.Parted(ctx, tx, ana, bo) }))
		require.Zero(t, rows[int64](w, `SELECT count(*) FROM talk_requests WHERE state = 'open'`)[0])
	}
	count := map[string]int{}
	for _, s := range w.told() {
		count[strings.Fields(s)[0]]++
	}
	talks := rows[int64](w, `SELECT count(*) FROM talks`)[0]
	require.Positive(t, talks)
	require.Equal(t, []int64{talks, talks, talks}, []int64{int64(count["create"]), int64(count["end"]), int64(count["met"])})
}

func TestCoarsePositionsAreNotShownFinely(t *testing.T) {
	w := setup(t)
	ana, bo := w.person(), w.person()
	w.at(bo, square, grant.Cells(6))
	p := Closed()
	p.Open, p.Radius = true, 20_000
	_, err := w.SetProfile(t.Context(), ana, p)
	require.NoError(t, err)
	page, err := w.People(t.Context(), ana, Look{Limit: 10})
	require.NoError(t, err)
	require.GreaterOrEqual(t, page.People[0].Within, geo.EdgeLength(6))
	require.Equal(t, grant.Cells(6), page.People[0].Precision)
}
