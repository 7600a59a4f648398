package location

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/internal/errs"
)

func (b *bundle) ask(user core.UserID, d AskDraft) (Ask, error) {
	return in(b, func(ctx context.Context, tx pgx.Tx) (Ask, error) { return b.Ask(ctx, tx, user, d) })
}

func (b *bundle) accept(user core.UserID, ask uuid.UUID, p grant.Precision, life time.Duration) (Grant, error) {
	return in(b, func(ctx context.Context, tx pgx.Tx) (Grant, error) { return b.Accept(ctx, tx, user, ask, p, life) })
}

func (b *bundle) link(user core.UserID, d LinkDraft) (Link, error) {
	return in(b, func(ctx context.Context, tx pgx.Tx) (Link, error) { return b.MakeLink(ctx, tx, user, d) })
}

func states(t *testing.T, b *bundle, user core.UserID, mine bool) (out []AskState) {
	for cursor := ""; ; {
		list, next, err := b.Asks(t.Context(), user, mine, cursor, 2)
		require.NoError(t, err)
		for _, a := range list {
			out = append(out, a.State)
		}
		if next == "" {
			return out
		}
		cursor = next
	}
}

func TestAsks(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	ana, bo, eve := b.user(), b.user(), b.user()
	b.group(ana, bo)
	exact := AskDraft{Asked: bo, Precision: grant.Exact}

	a, err := b.ask(ana, AskDraft{Asked: bo, Message: " where are you? ", Precision: grant.Cells(9), Life: 30 * time.Minute})
	require.NoError(t, err)
	list, next, err := b.Asks(ctx, bo, false, "", 10)
	require.NoError(t, err)
	require.Empty(t, next)
	require.Equal(t, []Ask{a}, list)
	require.Equal(t, "where are you?", a.Message)
	require.Equal(t, "u"+ana.String(), a.AskerName)
	require.Equal(t, "nothing", b.sees(bo, person(ana)), "an ask shares nothing")
	_, err = b.ask(ana, exact)
	require.ErrorIs(t, err, ErrAskOpen)

	// Only who was asked answers, and decides how finely and for how long.
	_, err = b.accept(ana, a.ID, grant.Exact, time.Hour)
	require.ErrorIs(t, err, ErrNoAsk)
	_, err = b.accept(eve, a.ID, grant.Exact, time.Hour)
	require.ErrorIs(t, err, ErrNoAsk)
	g, err := b.accept(bo, a.ID, grant.Cells(6), time.Hour)
	require.NoError(t, err)
	require.Equal(t, person(ana), g.Audience)
	require.Equal(t, "r6", b.sees(bo, person(ana)))
	b.advance(time.Hour)
	require.Equal(t, "nothing", b.sees(bo, person(ana)))
	_, err = b.accept(bo, a.ID, grant.Exact, 0)
	require.ErrorIs(t, err, ErrNoAsk, "answered")

	// Declined: not again at once.
	a, err = b.ask(ana, exact)
	require.NoError(t, err)
	require.Equal(t, askShare, a.Life)
	require.ErrorIs(t, b.Decline(ctx, ana, a.ID), ErrNoAsk)
	require.NoError(t, b.Decline(ctx, bo, a.ID))
	_, err = b.ask(ana, exact)
	e, ok := errors.AsType[*errs.Error](err)
	require.True(t, ok)
	require.Equal(t, errs.RateLimited, e.Kind)
	require.InDelta(t, askAgain.Seconds(), e.RetryAfter.Seconds(), 60)
	_, err = b.ask(bo, AskDraft{Asked: ana, Precision: grant.Exact})
	require.NoError(t, err, "the other way is another thing")
	b.advance(askAgain)

	// Withdrawn, expired.
	a, err = b.ask(ana, exact)
	require.NoError(t, err)
	require.ErrorIs(t, b.Withdraw(ctx, bo, a.ID), ErrNoAsk)
	require.NoError(t, b.Withdraw(ctx, ana, a.ID))
	a, err = b.ask(ana, exact)
	require.NoError(t, err)
	b.advance(askLife)
	_, err = b.accept(bo, a.ID, grant.Exact, 0)
	require.ErrorIs(t, err, ErrNoAsk)
	a, err = b.ask(ana, exact)
	require.NoError(t, err)
	require.Equal(t, []AskState{AskOpen, AskExpired, AskWithdrawn, AskDeclined, AskAccepted}, states(t, b, bo, false))
	require.Equal(t, []AskState{AskOpen, AskExpired, AskWithdrawn, AskDeclined, AskAccepted}, states(t, b, ana, true))
	require.Equal(t, []AskState{AskExpired}, states(t, b, ana, false))

	// A block ends what is open; afterwards they don't exist for each other.
	require.NoError(t, b.blocks.Block(ctx, bo, ana))
	require.Equal(t, AskWithdrawn, states(t, b, bo, false)[0])
	_, err = b.ask(ana, exact)
	require.ErrorIs(t, err, ErrNoUser)

	for _, d := range []AskDraft{
		{Asked: eve, Precision: grant.Exact}, {Asked: ana, Precision: grant.Exact}, {Asked: core.UserID(uuid.New()), Precision: grant.Exact},
		{Asked: eve}, {Asked: eve, Precision: grant.Exact, Life: time.Second}, {Asked: eve, Precision: grant.Exact, Life: 31 * 24 * time.Hour},
		{Asked: eve, Precision: grant.Exact, Message: strings.Repeat("x", 201)},
	} {
		_, err := b.ask(ana, d)
		require.Error(t, err, "%+v", d)
	}
	require.NoError(t, b.Sweep(ctx))
	b.advance(keepAsks + time.Hour)
	require.NoError(t, b.Sweep(ctx))
	require.Empty(t, states(t, b, bo, false))
}

func TestAsksAreBounded(t *testing.T) {
	b := setup(t)
	ana := b.user()
	people := []core.UserID{ana}
	for range asksADay + 1 {
		people = append(people, b.user())
	}
	b.group(people...)
	for _, p := range people[1 : asksADay+1] {
		_, err := b.ask(ana, AskDraft{Asked: p, Precision: grant.Exact})
		require.NoError(t, err)
	}
	last := AskDraft{Asked: people[asksADay+1], Precision: grant.Exact}
	_, err := b.ask(ana, last)
	e, ok := errors.AsType[*errs.Error](err)
	require.True(t, ok)
	require.Equal(t, errs.RateLimited, e.Kind)
	b.advance(e.RetryAfter)
	_, err = b.ask(ana, last)
	require.NoError(t, err)
}

// One ask is open for a pair, and is answered once, however many try.
func TestAsksAtOnce(t *testing.T) {
	b := setup(t)
	ana, bo := b.user(), b.user()
	b.group(ana, bo)
	var wg sync.WaitGroup
	var asked, accepted atomic.Int32
	for range 8 {
		wg.Go(func() {
			if _, err := b.ask(ana, AskDraft{Asked: bo, Precision: grant.Exact}); err == nil {
				asked.Add(1)
			}
		})
	}
	wg.Wait()
	require.Equal(t, int32(1), asked.Load())
	list, _, err := b.Asks(t.Context(), bo, false, "", 10)
	require.NoError(t, err)
	for range 8 {
		wg.Go(func() {
			if _, err := b.accept(bo, list[0].ID, grant.Exact, time.Hour); err == nil {
				accepted.Add(1)
			}
		})
	}
	wg.Wait()
	require.Equal(t, int32(1), accepted.Load())
	grants, err := b.Grants(t.Context(), bo)
	require.NoError(t, err)
	require.Len(t, grants, 1)
}

func TestLinks(t *testing.T) {
	b := setup(t)
	ctx := t.Context()
	ana := b.user()
	l, err := b.link(ana, LinkDraft{Precision: grant.Cells(8), Life: time.Hour, Purpose: "mum"})
	require.NoError(t, err)
	token := b.Token(l.ID)
	require.Len(t, token, 32)
	require.Equal(t, "https://example.org/l/"+token, b.URL(l.ID))
	require.Zero(t, b.number(`SELECT count(*) FROM location_links WHERE position($1 IN token_hash) > 0`, []byte(token)))
	require.Equal(t, "r8", b.sees(ana, grant.Audience{Kind: grant.Link, ID: l.ID.String()}))

	got, err := b.OpenLink(ctx, token)
	require.NoError(t, err)
	require.Equal(t, l, got)
	other, err := New(b.db, []byte("another secret of at least 32 bytes"), Config{Now: b.clock})
	require.NoError(t, err)
	require.NotEqual(t, token, other.Token(l.ID))
	require.Empty(t, other.URL(l.ID))
	for _, bad := range []string{"", "x", token[:31], token + "A", strings.ToLower(token), l.ID.String(), other.Token(l.ID), strings.Repeat("A", 1000)} {
		_, err := b.OpenLink(ctx, bad)
		require.ErrorIs(t, err, ErrNoLink, bad)
	}
	b.advance(time.Hour)
	_, err = b.OpenLink(ctx, token)
	require.ErrorIs(t, err, ErrNoLink)
	require.Equal(t, "nothing", b.sees(ana, grant.Audience{Kind: grant.Link, ID: l.ID.String()}))
	list, err := b.Links(ctx, ana)
	require.NoError(t, err)
	require.Empty(t, list)

	l, err = b.link(ana, LinkDraft{Precision: grant.Exact})
	require.NoError(t, err)
	require.Equal(t, linkLife, l.Expires.Sub(l.CreatedAt))
	require.ErrorIs(t, b.Revoke(ctx, b.user(), l.ID), ErrNoLink)
	r := b.recorder()
	r.Opened(l, grant.Cells(6), b.clock())
	r.Stop()
	require.NoError(t, b.Revoke(ctx, ana, l.ID))
	require.ErrorIs(t, b.Revoke(ctx, ana, l.ID), ErrNoLink)
	_, err = b.OpenLink(ctx, b.Token(l.ID))
	require.ErrorIs(t, err, ErrNoLink)
	receipts, _, err := b.Receipts(ctx, ana, "", 10)
	require.NoError(t, err)
	require.Len(t, receipts, 1)
	require.Equal(t, l.ID, receipts[0].Reader)
	require.Equal(t, ByLink, receipts[0].How)

	for _, d := range []LinkDraft{{}, {Precision: grant.Exact, Life: time.Second}, {Precision: grant.Exact, Life: 31 * 24 * time.Hour}, {Precision: grant.Exact, Purpose: "a\nb"}} {
		_, err := b.link(ana, d)
		require.Error(t, err, "%+v", d)
	}
	for range maxLinks {
		_, err := b.link(ana, LinkDraft{Precision: grant.Exact})
		require.NoError(t, err)
	}
	_, err = b.link(ana, LinkDraft{Precision: grant.Exact})
	require.ErrorIs(t, err, ErrTooManyLinks)
	_, err = New(b.db, []byte("short"), Config{})
	require.Error(t, err)
}
