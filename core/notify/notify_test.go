package notify_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/core/jobs"
	"github.com/mustermesh/muster/core/notify"
	"github.com/mustermesh/muster/core/notify/email"
	"github.com/mustermesh/muster/core/notify/inapp"
	"github.com/mustermesh/muster/core/notify/smtptest"
)

var secret = []byte("0123456789abcdef0123456789abcdef")

// pager is a channel of a test's own. It is all that another push service (FCM,
// APNs) would need: this, and one line where channels are listed.
type pager struct {
	mu   sync.Mutex
	got  []notify.Message
	fail func(n int) error // of the n-th delivery, from 1
	n    int
}

func (*pager) Name() string { return "pager" }

func (*pager) Address(ctx context.Context, q db.Querier, user core.UserID) ([]notify.Address, error) {
	var name string
	err := q.QueryRow(ctx, `SELECT username FROM users WHERE id = $1`, user).Scan(&name)
	return []notify.Address{{ID: "1", To: name}}, err
}

func (p *pager) Deliver(_ context.Context, to notify.Address, m notify.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n++
	if p.fail != nil {
		if err := p.fail(p.n); err != nil {
			return err
		}
	}
	p.got = append(p.got, m)
	return nil
}

func (p *pager) messages() []notify.Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]notify.Message(nil), p.got...)
}

// bundle is a Notifier on a real database, with a queue that works.
type bundle struct {
	*notify.Notifier
	t     *testing.T
	db    *db.DB
	pager *pager
	smtp  *smtptest.Server

	mu    sync.Mutex
	ahead time.Duration // of the clock
}

func (b *bundle) now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Now().Add(b.ahead)
}

func setup(t *testing.T) *bundle {
	b := &bundle{t: t, db: devdb.Test(t), pager: &pager{}}
	var err error
	b.smtp, err = smtptest.Start(smtptest.Options{}, "")
	require.NoError(t, err)
	t.Cleanup(b.smtp.Stop)
	b.Notifier = b.notifier()
	b.work(b.Notifier)
	return b
}

func (b *bundle) notifier() *notify.Notifier {
	mails, err := email.New("Muster <no-reply@muster.test>", &email.SMTP{Addr: b.smtp.Addr, TLS: &tls.Config{RootCAs: b.smtp.Pool}})
	require.NoError(b.t, err)
	n, err := notify.New(b.db, secret, notify.Config{
		Channels: []notify.Channel{mails, inapp.New(b.db, b.now), b.pager}, Base: "https://muster.test/", Now: b.now,
		Log: slog.New(slog.NewTextHandler(b.t.Output(), nil)),
	})
	require.NoError(b.t, err)
	return n
}

// work starts a queue: a node.
func (b *bundle) work(n *notify.Notifier) *jobs.Queue {
	q := jobs.New(b.db, jobs.Config{Poll: 100 * time.Millisecond, Drain: 200 * time.Millisecond, Log: slog.New(slog.NewTextHandler(b.t.Output(), nil))})
	n.Handle(q)
	require.NoError(b.t, q.Start(context.WithoutCancel(b.t.Context())))
	b.t.Cleanup(q.Stop)
	return q
}

// user makes one with a confirmed mail address.
func (b *bundle) user(name string) core.UserID {
	b.t.Helper()
	id := core.UserID(uuid.New())
	b.exec(`INSERT INTO users (id, username, username_key, email, email_key, email_verified_at, home_region) VALUES ($1, $2, $3, $4, $4, now(), 'eu-west')`,
		id, name, strings.ToLower(name), strings.ToLower(name)+"@example.org")
	return id
}

func (b *bundle) exec(sql string, args ...any) {
	b.t.Helper()
	b.tx(func(ctx context.Context, tx pgx.Tx) error { _, err := tx.Exec(ctx, sql, args...); return err })
}

func (b *bundle) tx(fn func(ctx context.Context, tx pgx.Tx) error) {
	b.t.Helper()
	require.NoError(b.t, b.db.InTx(b.t.Context(), pgx.TxOptions{}, fn))
}

func (b *bundle) notify(to core.UserID, kind string, data map[string]any) {
	b.t.Helper()
	b.tx(func(ctx context.Context, tx pgx.Tx) error { return b.Notify(ctx, tx, to, kind, data) })
}

func (b *bundle) count(sql string, args ...any) (n int) {
	b.t.Helper()
	require.NoError(b.t, b.db.Read(b.t.Context(), func(ctx context.Context, q db.Querier) error { return q.QueryRow(ctx, sql, args...).Scan(&n) }))
	return n
}

// eventually waits for what jobs bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, time.Minute, 20*time.Millisecond, what)
}

// states returns what became of the newest notification, by channel.
func (b *bundle) states(user core.UserID) map[string]string {
	b.t.Helper()
	out := map[string]string{}
	require.NoError(b.t, b.db.Read(b.t.Context(), func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, `SELECT d.channel, d.state FROM notify_deliveries d WHERE d.notification_id =
			(SELECT id FROM notifications WHERE user_id = $1 ORDER BY created_at DESC LIMIT 1)`, user)
		if err != nil {
			return err
		}
		var c, s string
		_, err = pgx.ForEachRow(rows, []any{&c, &s}, func() error { out[c] = s; return nil })
		return err
	}))
	return out
}

// hasten makes what waits due.
func (b *bundle) hasten() { b.exec(`UPDATE jobs SET run_at = now() WHERE state = 'ready'`) }

type obj = map[string]any

func TestOneNotificationByAllWays(t *testing.T) {
	b := setup(t)
	ana, bob := b.user("Ana"), b.user("Bob")
	lang := "de"
	_, err := b.ChangeWishes(t.Context(), ana, notify.WishChange{Language: &lang})
	require.NoError(t, err)
	b.notify(ana, notify.FriendRequest, obj{"user_id": bob.String()})
	sent := map[string]string{"app": "sent", "email": "sent", "pager": "sent"}
	eventually(t, "all are sent", func() bool { return len(b.states(ana)) == 3 && fmt.Sprint(b.states(ana)) == fmt.Sprint(sent) })

	mails := b.smtp.Mails()
	require.Len(t, mails, 1)
	require.Equal(t, "ana@example.org", mails[0].To)
	require.Equal(t, "Bob möchte mit dir befreundet sein", mails[0].Subject)
	require.Len(t, b.pager.messages(), 1)
	require.Equal(t, "Bob fragt, ob ihr befreundet sein wollt.", b.pager.messages()[0].Brief)

	list, next, err := b.List(t.Context(), ana, false, "", 10)
	require.NoError(t, err)
	require.Empty(t, next)
	require.Len(t, list, 1)
	require.Equal(t, "Bob möchte mit dir befreundet sein", list[0].Title)
	require.Equal(t, bob.String(), list[0].Data["user_id"])
	require.Nil(t, list[0].ReadAt)
	n, err := b.Unread(t.Context(), ana)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.NoError(t, b.Read(t.Context(), ana, list[0].ID))
	require.NoError(t, b.Read(t.Context(), ana, list[0].ID))
	require.ErrorIs(t, b.Read(t.Context(), bob, list[0].ID), notify.ErrNoNotification)
	n, err = b.Unread(t.Context(), ana)
	require.NoError(t, err)
	require.Zero(t, n)
	deliveries, err := b.Deliveries(t.Context(), ana, list[0].ID)
	require.NoError(t, err)
	require.Len(t, deliveries, 3)
	_, err = b.Deliveries(t.Context(), bob, list[0].ID)
	require.ErrorIs(t, err, notify.ErrNoNotification)
	// Ana's devices were told, once.
	require.Equal(t, 0, b.count(`SELECT count(*) FROM jobs`))

	// Who is gone takes what was told of them along.
	b.exec(`DELETE FROM users WHERE id = $1`, bob)
	list, _, err = b.List(t.Context(), ana, false, "", 10)
	require.NoError(t, err)
	require.Empty(t, list)
}

func TestWhatIsRolledBackIsNotTold(t *testing.T) {
	b := setup(t)
	ana := b.user("Ana")
	err := b.db.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		require.NoError(t, b.Notify(ctx, tx, ana, notify.PasswordChanged, nil))
		require.NoError(t, b.Mail(ctx, tx, "x@example.org", "en", notify.VerifyEmail, obj{"link": "https://muster.test/#/verify/t"}))
		return errors.New("no")
	})
	require.Error(t, err)
	require.Zero(t, b.count(`SELECT (SELECT count(*) FROM notifications) + (SELECT count(*) FROM mails) + (SELECT count(*) FROM jobs)`))
}

func TestWrongUseIsToldToWhoProgrammedIt(t *testing.T) {
	b := setup(t)
	ana := b.user("Ana")
	for _, c := range []struct {
		kind string
		data obj
	}{
		{"party", nil}, {notify.VerifyEmail, obj{"link": "x"}}, {notify.FriendRequest, nil}, {notify.FriendRequest, obj{"user_id": "Bob"}},
	} {
		err := b.db.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error { return b.Notify(ctx, tx, ana, c.kind, c.data) })
		require.Error(t, err)
	}
	err := b.db.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		return b.Mail(ctx, tx, "x@example.org", "en", notify.VerifyEmail, nil)
	})
	require.Error(t, err)
}

func TestOnceIsOnce(t *testing.T) {
	b := setup(t)
	ana := b.user("Ana")
	for range 3 {
		b.tx(func(ctx context.Context, tx pgx.Tx) error {
			return b.Send(ctx, tx, notify.Notice{To: ana, Kind: notify.ExportReady, Once: "export 1"})
		})
	}
	eventually(t, "it is sent", func() bool { return len(b.pager.messages()) == 1 && b.count(`SELECT count(*) FROM jobs`) == 0 })
	require.Equal(t, 1, b.count(`SELECT count(*) FROM notifications`))
}

func TestPreferences(t *testing.T) {
	b := setup(t)
	ana, bob := b.user("Ana"), b.user("Bob")
	w, err := b.Wishes(t.Context(), ana)
	require.NoError(t, err)
	require.Equal(t, map[string]bool{"app": true, "email": true, "pager": true}, w.Preferences[notify.FriendRequest])
	require.Equal(t, map[string]bool{"app": true, "email": false, "pager": true}, w.Preferences[notify.FriendAccepted])
	require.NotContains(t, w.Preferences, notify.VerifyEmail)

	w, err = b.ChangeWishes(t.Context(), ana, notify.WishChange{Preferences: map[string]map[string]bool{notify.FriendRequest: {"email": false, "app": false}}})
	require.NoError(t, err)
	require.Equal(t, map[string]bool{"app": false, "email": false, "pager": true}, w.Preferences[notify.FriendRequest])
	b.notify(ana, notify.FriendRequest, obj{"user_id": bob.String()})
	eventually(t, "it is sent", func() bool { return b.states(ana)["pager"] == notify.Sent })
	require.Equal(t, map[string]string{"app": "muted", "email": "muted", "pager": "sent"}, b.states(ana))
	require.Empty(t, b.smtp.Mails())
	n, err := b.Unread(t.Context(), ana)
	require.NoError(t, err)
	require.Zero(t, n)

	for _, c := range []struct {
		change notify.WishChange
		want   error
	}{
		{notify.WishChange{Preferences: map[string]map[string]bool{notify.NewLogin: {"email": false}}}, notify.ErrCantMute},
		{notify.WishChange{Preferences: map[string]map[string]bool{"party": {"email": false}}}, notify.ErrBadKind},
		{notify.WishChange{Preferences: map[string]map[string]bool{notify.NewLogin: {"fax": true}}}, notify.ErrBadKind},
		{notify.WishChange{Preferences: map[string]map[string]bool{notify.VerifyEmail: {"app": true}}}, notify.ErrBadKind},
		{notify.WishChange{Language: new("x y")}, notify.ErrBadLanguage},
		{notify.WishChange{Zone: new("Europe/Atlantis")}, notify.ErrBadZone},
		{notify.WishChange{Zone: new("Local")}, notify.ErrBadZone},
		{notify.WishChange{Quiet: &notify.Quiet{From: 1440}}, notify.ErrBadQuiet},
	} {
		_, err := b.ChangeWishes(t.Context(), ana, c.change)
		require.ErrorIs(t, err, c.want)
	}
}

// An address that nobody confirmed gets only what is about the account's safety.
func TestUnprovenAddress(t *testing.T) {
	b := setup(t)
	ana, bob := b.user("Ana"), b.user("Bob")
	b.exec(`UPDATE users SET email_verified_at = NULL WHERE id = $1`, ana)
	b.notify(ana, notify.FriendRequest, obj{"user_id": bob.String()})
	eventually(t, "it is sent", func() bool { return b.states(ana)["pager"] == notify.Sent })
	require.NotContains(t, b.states(ana), "email")
	b.notify(ana, notify.PasswordChanged, nil)
	eventually(t, "it is mailed", func() bool { return len(b.smtp.Mails()) == 1 })
}

// What was planned for a confirmed address doesn't go to one that took its place.
func TestAnAddressThatIsNotConfirmedAnyMore(t *testing.T) {
	b := setup(t)
	ana, bob := b.user("Ana"), b.user("Bob")
	b.smtp.Behave(smtptest.Behaviour{Rcpt: func(string) error { return smtptest.Greylisted }})
	b.notify(ana, notify.FriendRequest, obj{"user_id": bob.String()})
	eventually(t, "it failed", func() bool { return b.states(ana)["email"] == notify.Failed })
	b.exec(`UPDATE users SET email = 'victim@example.org', email_key = 'victim@example.org', email_verified_at = NULL WHERE id = $1`, ana)
	b.smtp.Behave(smtptest.Behaviour{})
	eventually(t, "it is muted", func() bool { b.hasten(); return b.states(ana)["email"] == notify.Muted })
	require.Empty(t, b.smtp.Mails())
}

// One notification that can't be planned keeps no other of its job from being told,
// and is told when it can be: here, one of a newer version, during an update.
func TestOneThatCantBePlannedHoldsUpNoOther(t *testing.T) {
	b := setup(t)
	ana, bob := b.user("Ana"), b.user("Bob")
	b.tx(func(ctx context.Context, tx pgx.Tx) error {
		if err := b.Send(ctx, tx, notify.Notice{To: ana, Kind: notify.ExportReady}, notify.Notice{To: bob, Kind: notify.ExportReady}); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE notifications SET kind = 'newer', shown_at = now() WHERE user_id = $1`, ana)
		return err
	})
	eventually(t, "the other one is told", func() bool { return b.states(bob)["pager"] == notify.Sent })
	list, _, err := b.List(t.Context(), ana, false, "", 10)
	require.NoError(t, err, "what has no words here is in nobody's way")
	require.Len(t, list, 1)
	b.exec(`UPDATE notifications SET kind = $1 WHERE user_id = $2`, notify.ExportReady, ana)
	eventually(t, "it is told", func() bool { b.hasten(); return b.states(ana)["pager"] == notify.Sent })
	require.Zero(t, b.count(`SELECT count(*) FROM jobs WHERE state = 'dead'`))
}

// A mail that one node can't open waits for another that can.
func TestAMailUnderAnotherSecretWaits(t *testing.T) {
	b := setup(t)
	b.tx(func(ctx context.Context, tx pgx.Tx) error {
		other, err := notify.New(b.db, []byte("another secret of thirty-two bytes"), notify.Config{})
		if err != nil {
			return err
		}
		return other.Mail(ctx, tx, "ana@example.org", "en", notify.AccountDeleted, nil)
	})
	eventually(t, "it waits", func() bool { return b.count(`SELECT count(*) FROM jobs WHERE state = 'ready' AND attempts = 1`) == 1 })
	require.Equal(t, 1, b.count(`SELECT count(*) FROM mails WHERE sealed IS NOT NULL`))
}

func TestQuietHoursHoldBackWhatDisturbs(t *testing.T) {
	b := setup(t)
	ana, bob := b.user("Ana"), b.user("Bob")
	local := b.now().UTC()
	minute := local.Hour()*60 + local.Minute()
	_, err := b.ChangeWishes(t.Context(), ana, notify.WishChange{Quiet: &notify.Quiet{From: (minute + 1380) % 1440, Until: (minute + 120) % 1440}})
	require.NoError(t, err)
	b.notify(ana, notify.FriendRequest, obj{"user_id": bob.String()})
	eventually(t, "it is in the list", func() bool { return b.states(ana)["app"] == notify.Sent })
	b.notify(ana, notify.PasswordChanged, nil)
	eventually(t, "what is about safety is told", func() bool { return len(b.smtp.Mails()) == 1 && len(b.pager.messages()) == 1 })
	require.Equal(t, "Your password was changed", b.smtp.Mails()[0].Subject)
	eventually(t, "the rest waits", func() bool {
		return b.count(`SELECT count(*) FROM jobs WHERE state = 'ready' AND run_at > now() + interval '30 minutes'`) == 2
	})
	eventually(t, "as it is written down", func() bool { return b.count(`SELECT count(*) FROM notify_deliveries WHERE state = 'queued'`) == 2 })

	// In the morning: one is read by then, and not told any more.
	list, _, err := b.List(t.Context(), ana, true, "", 10)
	require.NoError(t, err)
	require.Len(t, list, 2)
	b.mu.Lock()
	b.ahead = 3 * time.Hour
	b.mu.Unlock()
	b.notify(ana, notify.FriendAccepted, obj{"user_id": bob.String()})
	eventually(t, "by day it is told at once", func() bool { return len(b.pager.messages()) == 2 })
	require.NoError(t, b.ReadUntil(t.Context(), ana, list[0].CreatedAt))
	b.hasten()
	eventually(t, "nothing waits", func() bool { return b.count(`SELECT count(*) FROM jobs`) == 0 })
	require.Equal(t, 2, b.count(`SELECT count(*) FROM notify_deliveries WHERE state = 'muted' AND detail = 'read elsewhere'`))
	require.Len(t, b.smtp.Mails(), 1)
}

func TestFailures(t *testing.T) {
	b := setup(t)
	ana := b.user("Ana")
	b.pager.fail = func(n int) error {
		switch n {
		case 1:
			return errors.New("engaged")
		case 2:
			return notify.Later(errors.New("in an hour"), time.Hour)
		case 4:
			return notify.Refused(errors.New("unknown"))
		}
		return nil
	}
	b.notify(ana, notify.ExportReady, nil)
	eventually(t, "it failed", func() bool { return b.states(ana)["pager"] == notify.Failed })
	b.hasten()
	eventually(t, "it is to wait", func() bool {
		return b.count(`SELECT count(*) FROM jobs WHERE state = 'ready' AND run_at > now() + interval '50 minutes'`) == 1
	})
	b.hasten()
	eventually(t, "it is sent", func() bool { return b.states(ana)["pager"] == notify.Sent })
	require.Equal(t, 3, b.count(`SELECT attempts FROM notify_deliveries WHERE channel = 'pager'`))

	b.notify(ana, notify.ExportReady, nil)
	eventually(t, "it is refused", func() bool { return b.states(ana)["pager"] == notify.Dead })
	require.Equal(t, 0, b.count(`SELECT count(*) FROM jobs WHERE state = 'dead'`)) // nothing to mend

	// What fails for good is left for an operator, who can have it tried again.
	b.pager.fail = func(int) error { return errors.New("engaged") }
	b.notify(ana, notify.ExportReady, nil)
	eventually(t, "it failed", func() bool { return b.states(ana)["pager"] == notify.Failed })
	eventually(t, "it waits", func() bool { return b.count(`SELECT count(*) FROM jobs WHERE state = 'ready'`) == 1 })
	b.exec(`UPDATE jobs SET attempts = max_attempts - 1, run_at = now()`)
	eventually(t, "it is dead", func() bool { return b.count(`SELECT count(*) FROM jobs WHERE state = 'dead'`) == 1 })
	require.Equal(t, notify.Dead, b.states(ana)["pager"])
	b.pager.mu.Lock()
	b.pager.fail = nil
	b.pager.mu.Unlock()
	b.exec(`UPDATE jobs SET state = 'ready', attempts = 0, run_at = now()`)
	eventually(t, "it is sent", func() bool { return b.states(ana)["pager"] == notify.Sent })
}

// Links in mails are secrets: the database has them sealed, and only until the
// mail is sent or given up.
func TestSecretsInMails(t *testing.T) {
	b := setup(t)
	b.smtp.Behave(smtptest.Behaviour{Rcpt: func(to string) error {
		if to == "nobody@example.org" {
			return smtptest.Refused
		}
		return smtptest.Greylisted
	}})
	mail := func(to string) {
		b.tx(func(ctx context.Context, tx pgx.Tx) error {
			return b.Mail(ctx, tx, to, "fr", notify.ResetPassword, obj{"link": "https://muster.test/#/reset/s3cr3t"})
		})
	}
	mail("carol@example.org")
	mail("nobody@example.org")
	eventually(t, "both were tried", func() bool { return b.count(`SELECT count(*) FROM mails WHERE state IN ('failed', 'dead')`) == 2 })
	require.Equal(t, 1, b.count(`SELECT count(*) FROM mails WHERE state = 'dead' AND sealed IS NULL`))
	require.Equal(t, 1, b.count(`SELECT count(*) FROM mails WHERE sealed IS NOT NULL`))
	for _, table := range []string{"mails", "jobs"} {
		require.Zero(t, b.count(`SELECT count(*) FROM `+table+` t WHERE to_jsonb(t)::TEXT LIKE '%s3cr3t%' OR to_jsonb(t)::TEXT LIKE '%example.org%'`), table)
	}
	eventually(t, "it waits", func() bool { return b.count(`SELECT count(*) FROM jobs WHERE state = 'ready'`) == 1 })
	b.smtp.Behave(smtptest.Behaviour{})
	b.hasten()
	eventually(t, "it is sent", func() bool { return len(b.smtp.Mails()) == 1 })
	require.Contains(t, string(b.smtp.Mails()[0].Raw), "s3cr3t")
	require.Equal(t, "Choisissez un nouveau mot de passe", b.smtp.Mails()[0].Subject)
	eventually(t, "nothing is kept", func() bool { return b.count(`SELECT count(*) FROM mails WHERE sealed IS NOT NULL`) == 0 })
}

func TestBulk(t *testing.T) {
	b := setup(t)
	b.work(b.notifier()) // two nodes
	const people = 450
	b.exec(`INSERT INTO users (id, username, username_key, home_region) SELECT gen_random_uuid(), 'u' || i, 'u' || i, 'eu-west' FROM generate_series(1, $1::INT) i`, people)
	var bulk uuid.UUID
	b.tx(func(ctx context.Context, tx pgx.Tx) (err error) {
		bulk, err = b.Bulk(ctx, tx, notify.Announcement, obj{"title": "Maintenance", "text": "On Sunday."}, notify.Everyone())
		return err
	})
	// The same job twice, as after a crash between the last batch and its finish.
	payload, err := json.Marshal(obj{"id": bulk})
	require.NoError(t, err)
	b.tx(func(ctx context.Context, tx pgx.Tx) error {
		return jobs.Enqueue(ctx, tx, jobs.Job{Kind: "notify_bulk", Payload: json.RawMessage(payload)})
	})
	eventually(t, "all are told", func() bool {
		return b.count(`SELECT count(*) FROM jobs`) == 0 && b.count(`SELECT count(*) FROM notify_bulks WHERE finished_at IS NOT NULL`) == 1
	})
	require.Equal(t, people, b.count(`SELECT count(DISTINCT user_id) FROM notifications WHERE shown_at IS NOT NULL`))
	require.Equal(t, people, b.count(`SELECT count(*) FROM notifications`))
	require.Equal(t, people, b.count(`SELECT recipients FROM notify_bulks`))
	require.Len(t, b.pager.messages(), people)
	err = b.db.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := b.Bulk(ctx, tx, notify.Announcement, obj{"title": "x", "text": "y"}, notify.Audience{Name: "1 OR true"})
		return err
	})
	require.Error(t, err)
}

// Mails arrive once each, however the server and the nodes behave; only where the
// server took one and the connection broke before it said so, twice, as one
// Message-ID.
func TestMailsArriveOnce(t *testing.T) {
	b := setup(t)
	second := b.work(b.notifier())
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(1, 2))
	chance := func(p float64) bool {
		mu.Lock()
		defer mu.Unlock()
		return rng.Float64() < p
	}
	b.smtp.Behave(smtptest.Behaviour{
		Rcpt: func(string) error {
			if chance(.15) {
				return smtptest.Greylisted
			}
			return nil
		},
		Data: func(string) (smtptest.Fault, error) {
			switch {
			case chance(.1):
				return smtptest.Fault{}, smtptest.Overloaded
			case chance(.1):
				return smtptest.Fault{Drop: true}, nil
			case chance(.1):
				return smtptest.Fault{Cut: true}, nil
			}
			return smtptest.Fault{Wait: time.Duration(rand.IntN(30)) * time.Millisecond}, nil
		},
	})
	const mails = 200
	for i := range mails {
		b.tx(func(ctx context.Context, tx pgx.Tx) error {
			return b.Mail(ctx, tx, fmt.Sprintf("u%d@example.org", i), "en", notify.VerifyEmail, obj{"link": "https://muster.test/#/verify/x"})
		})
	}
	stopped := false
	eventually(t, "all are sent", func() bool {
		b.hasten()
		sent := b.count(`SELECT count(*) FROM mails WHERE state = 'sent'`)
		if sent > mails/3 && !stopped { // a node goes away in the middle
			stopped = true
			second.Stop()
		}
		return sent == mails
	})
	to, ids, lost := map[string]map[string]bool{}, map[string]int{}, map[string]int{}
	for _, m := range b.smtp.Mails() {
		if to[m.To] == nil {
			to[m.To] = map[string]bool{}
		}
		to[m.To][m.ID] = true
		ids[m.ID]++
		if m.Lost {
			lost[m.ID]++
		}
	}
	require.Len(t, to, mails)
	again, cut := 0, 0
	for id, n := range ids {
		again += n - 1
		cut += lost[id]
	}
	for _, m := range to {
		require.Len(t, m, 1, "one Message-ID for each recipient")
	}
	require.LessOrEqual(t, again, cut+16, "again only what was cut, or in flight on the node that stopped")
	t.Logf("%d mails; %d connections; %d cut after DATA; %d arrived again", mails, b.smtp.Sessions(), cut, again)
}
