package privacy

import (
	"context"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/auth"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/core/groups"
	"github.com/mustermesh/muster/core/jobs"
	"github.com/mustermesh/muster/core/objects"
	"github.com/mustermesh/muster/core/objects/dir"
	"github.com/mustermesh/muster/core/users"
)

// What Ana is looked for by.
const (
	anaName = "Zaphodina"
	anaMail = "zaphodina.trace@example.org"
)

type bundle struct {
	*Store
	t        *testing.T
	db       *db.DB
	auth     *auth.Service
	catalog  *objects.Catalog
	groups   *groups.Store
	ana, bob core.UserID
	token    string // Ana's

	mu    sync.Mutex
	time  time.Time
	mails []string // address, kind
	told  []string // kinds of notifications
	gone  []core.UserID
}

func (b *bundle) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.time = b.time.Add(time.Millisecond)
	return b.time
}

func (b *bundle) advance(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.time = b.time.Add(d)
}

func (b *bundle) Notify(_ context.Context, _ pgx.Tx, _ core.UserID, kind string, _ map[string]any) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told = append(b.told, kind)
	return nil
}

func (b *bundle) Mail(_ context.Context, _ pgx.Tx, address, _, template string, data map[string]any) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	name, _ := data["username"].(string)
	b.mails = append(b.mails, address+" "+template+" "+name)
	return nil
}

var secret = []byte("0123456789abcdef0123456789abcdef")

func setup(t *testing.T) *bundle {
	b := &bundle{t: t, db: devdb.Test(t), time: time.Now().UTC().Truncate(time.Second)}
	files, err := dir.Open(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, files.Close()) })
	b.catalog = objects.NewCatalog(b.db, files, b.clock)
	b.auth, err = auth.New(b.db, secret, "eu-west", auth.Config{VerifierConfig: auth.VerifierConfig{Now: b.clock}, Hash: auth.HashConfig{MemoryKiB: 64, Passes: 1}})
	require.NoError(t, err)
	require.NoError(t, b.auth.Start(t.Context()))
	t.Cleanup(b.auth.Stop)
	b.groups = groups.New(b.db, "eu-west", groups.Config{Now: b.clock})
	b.Store, err = New(b.db, secret, Config{
		Accounts: b.auth, Groups: b.groups, Objects: b.catalog, Notify: b, Now: b.clock, Base: "https://example.org",
		Changed: func(ctx context.Context, tx pgx.Tx, user core.UserID) error {
			_, err := users.Changed(ctx, tx, user)
			return err
		},
		Gone: []func(context.Context, core.UserID) error{func(_ context.Context, user core.UserID) error {
			b.gone = append(b.gone, user)
			return nil
		}},
		Extra: map[string]func(context.Context, core.UserID, func(any) error) error{
			"track": func(_ context.Context, _ core.UserID, add func(any) error) error {
				return add(map[string]any{"lat": 45.3})
			},
		},
	})
	require.NoError(t, err)
	b.exec(`INSERT INTO outbox_sinks (name, scope) VALUES ('test', '')`)
	b.ana, b.token = b.register(anaName, anaMail)
	b.bob, _ = b.register("Bob", "bob@example.org")
	return b
}

func (b *bundle) register(name, email string) (core.UserID, string) {
	b.t.Helper()
	tokens, err := b.auth.Register(b.t.Context(), auth.Account{Username: name, Email: email, Password: "correct horse battery"}, map[string]any{"name": name + "'s phone"})
	require.NoError(b.t, err)
	return tokens.User, tokens.Access
}

func (b *bundle) exec(sql string, args ...any) {
	b.t.Helper()
	require.NoError(b.t, b.db.InTx(b.t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql, args...)
		return err
	}), sql)
}

func (b *bundle) number(sql string, args ...any) (n int) {
	b.t.Helper()
	require.NoError(b.t, b.db.Read(b.t.Context(), func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, sql, args...).Scan(&n)
	}), sql)
	return n
}

// group makes a group of an owner and others.
func (b *bundle) group(owner core.UserID, others ...core.UserID) (id core.GroupID) {
	b.t.Helper()
	require.NoError(b.t, b.db.InTx(b.t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		g, _, err := b.groups.Create(ctx, tx, owner, groups.Draft{Name: "Friday crew"})
		id = g
		return err
	}))
	for _, o := range others {
		b.exec(`INSERT INTO group_members (group_id, user_id, role, joined_at) VALUES ($1, $2, 'member', $3)`, id, o, b.clock())
	}
	return id
}

// fill leaves somebody's traces in every table, by the table. $1 is the
// person, $2 another one, $3 a group of both, $4 a login of the person, and $5
// their name and address.
var fill = map[string][]string{
	"matching_profiles": {`INSERT INTO matching_profiles (user_id, interests, radius, max_age, say) VALUES ($1, ARRAY[$5::TEXT], 5000, 900, 'I am ' || $5)`},
	"matching_shown":    {`INSERT INTO matching_shown (viewer, shown, round, shown_at) VALUES ($1, $2, 1, now()), ($2, $1, 1, now())`},
	"talk_requests": {`INSERT INTO talk_requests (id, asker, asked, say, created_at, expires_at) VALUES
		(gen_random_uuid(), $1, $2, 'I am ' || $5, now(), now()), (gen_random_uuid(), $2, $1, 'hi ' || $5, now(), now())`},
	"talks":            {`INSERT INTO talks (id, asker, asked, opened_at, expires_at) VALUES (gen_random_uuid(), $1, $2, now(), now()), (gen_random_uuid(), $2, $1, now(), now())`},
	"presence":         {`INSERT INTO presence (user_id, last_seen) VALUES ($1, now())`},
	"blocks":           {`INSERT INTO blocks (blocker, blocked) VALUES ($1, $2), ($2, $1)`},
	"friend_requests":  {`INSERT INTO friend_requests (requester, requested) VALUES ($1, $2), ($2, $1)`},
	"friends":          {`INSERT INTO friends (user_id, friend_id) VALUES ($1, $2), ($2, $1)`},
	"friend_settings":  {`INSERT INTO friend_settings (user_id) VALUES ($1)`},
	"user_terms":       {`INSERT INTO user_terms (term, user_id) VALUES (lower($5)::BYTEA, $1)`},
	"encounters":       {`INSERT INTO encounters (id, kind, opened_at, window_ends) VALUES ('00000000-0000-4000-8000-000000000001', 'nearby', now(), now())`},
	"encounter_people": {`INSERT INTO encounter_people (encounter_id, user_id) VALUES ('00000000-0000-4000-8000-000000000001', $1), ('00000000-0000-4000-8000-000000000001', $2)`},
	"ratings": {`INSERT INTO ratings (id, encounter_id, rater, ratee, stars, text, revealed_at) VALUES
		(gen_random_uuid(), '00000000-0000-4000-8000-000000000001', $1, $2, 4, 'I am ' || $5, now()), (gen_random_uuid(), '00000000-0000-4000-8000-000000000001', $2, $1, 2, 'a rating of ' || $5, NULL)`},
	"reports": {`INSERT INTO reports (id, reporter, subject, room, number, reason, text, evidence, created_at) VALUES
		(gen_random_uuid(), $1, $2, 'direct:' || $1::UUID::TEXT || ':' || $2::UUID::TEXT, 2, 'spam', 'says ' || $5, 'x'::BYTEA, now()), (gen_random_uuid(), $2, $1, '', 0, 'hate', $5, 'x'::BYTEA, now())`},
	"group_members": {}, // by the groups that the person is in
	"group_bans":    {`INSERT INTO group_bans (group_id, user_id, banned_by) VALUES ($3, $1, $2), ($3, $2, $1)`},
	"group_terms":   {`INSERT INTO group_terms (term, group_id, whole) VALUES ('friday crew'::BYTEA, $3, true)`},
	"groups":        {},
	"invites":       {`INSERT INTO invites (code, group_id, created_by, expires_at) VALUES (substr(md5($5), 1, 10), $3, $1, now())`},
	"rooms":         {`INSERT INTO rooms (room, last_number) VALUES ('group:' || $3::UUID::TEXT, 4), ('direct:' || $1::UUID::TEXT || ':' || $2::UUID::TEXT, 2)`},
	"messages": {
		`INSERT INTO messages (room, number, id, sender, client_id, body, sent_at) SELECT 'group:' || $3::UUID::TEXT, n, gen_random_uuid(), CASE WHEN n = 2 THEN $2::UUID ELSE $1::UUID END,
			CASE WHEN n = 2 THEN 'c2' ELSE n || $5 END, CASE WHEN n = 2 THEN 'not by the person' ELSE 'I am ' || $5 END, now() FROM generate_series(1, 4) n`,
		`INSERT INTO messages (room, number, id, sender, client_id, body, sent_at) SELECT 'direct:' || $1::UUID::TEXT || ':' || $2::UUID::TEXT, n, gen_random_uuid(), CASE WHEN n = 2 THEN $2::UUID ELSE $1::UUID END,
			'c' || n, 'just us', now() FROM generate_series(1, 2) n`,
	},
	"calls": {`INSERT INTO calls (id, room, group_id, home_region, type, started_by, started_at) VALUES
		(gen_random_uuid(), 'group:' || $3::UUID::TEXT, $3, 'eu-west', 'audio', $1, now()),
		(gen_random_uuid(), 'direct:' || $1::UUID::TEXT || ':' || $2::UUID::TEXT, NULL, 'eu-west', 'video', $2, now())`},
	"call_people": {`INSERT INTO calls (id, room, home_region, type, started_at) VALUES
		('00000000-0000-4000-8000-000000000003', 'nearby:00000000-0000-4000-8000-000000000003', 'eu-west', 'audio', now()) ON CONFLICT DO NOTHING`,
		`INSERT INTO call_people (call_id, user_id) SELECT id, u FROM calls, unnest(ARRAY[$1::UUID, $2::UUID]) u WHERE id = '00000000-0000-4000-8000-000000000003'`},
	"call_servers":          {`INSERT INTO call_servers (call_id, node, seen_at) SELECT id, 'eu-west-1', now() FROM calls`}, // after call_people
	"conversations":         {`INSERT INTO conversations (room, pair, home_region, created_at) VALUES ('direct:' || $1::UUID::TEXT || ':' || $2::UUID::TEXT, true, 'eu-west', now()), ('nearby:00000000-0000-4000-8000-000000000002', true, 'eu-west', now())`},
	"conversation_people":   {`INSERT INTO conversation_people (room, user_id, since) SELECT r, u, now() FROM unnest(ARRAY['direct:' || $1::UUID::TEXT || ':' || $2::UUID::TEXT, 'nearby:00000000-0000-4000-8000-000000000002']) r, unnest(ARRAY[$1::UUID, $2::UUID]) u`},
	"conversation_mutes":    {`INSERT INTO conversation_mutes (room, user_id, until) VALUES ('group:' || $3::UUID::TEXT, $1, now()), ('direct:' || $1::UUID::TEXT || ':' || $2::UUID::TEXT, $2, now())`},
	"conversation_settings": {`INSERT INTO conversation_settings (user_id, receipts) VALUES ($1, 'nobody')`},
	"receipts":              {`INSERT INTO receipts (room, user_id, device, delivered, read, at) VALUES ('group:' || $3::UUID::TEXT, $1, 'phone of ' || $5, 1, 1, now()), ('direct:' || $1::UUID::TEXT || ':' || $2::UUID::TEXT, $2, '', 1, 1, now())`},
	"message_edits": {`INSERT INTO message_edits (room, number, change, body, written_at) VALUES
		('group:' || $3::UUID::TEXT, 1, 1, 'I was ' || $5, now()), ('group:' || $3::UUID::TEXT, 2, 2, 'not by the person', now()), ('direct:' || $1::UUID::TEXT || ':' || $2::UUID::TEXT, 2, 1, 'just us', now())`},
	"message_mentions": {`INSERT INTO message_mentions (room, number, user_id) VALUES ('group:' || $3::UUID::TEXT, 2, $1), ('group:' || $3::UUID::TEXT, 1, $2), ('direct:' || $1::UUID::TEXT || ':' || $2::UUID::TEXT, 1, $2)`},
	"message_attachments": {`INSERT INTO message_attachments (room, number, place, id, name, type, size, width, height, thumbnail) VALUES
		('group:' || $3::UUID::TEXT, 1, 0, gen_random_uuid(), 'passport of ' || $5, 'image/png', 1, 1, 1, true), ('direct:' || $1::UUID::TEXT || ':' || $2::UUID::TEXT, 2, 0, gen_random_uuid(), 'map', 'image/png', 1, 1, 1, true)`},
	"message_reactions": {`INSERT INTO message_reactions (room, number, user_id, emoji, reacted_at) VALUES ('group:' || $3::UUID::TEXT, 2, $1, '👍', now()), ('group:' || $3::UUID::TEXT, 1, $2, '👍', now()), ('direct:' || $1::UUID::TEXT || ':' || $2::UUID::TEXT, 1, $2, '👍', now())`},
	"message_hidden":    {`INSERT INTO message_hidden (user_id, room, number) VALUES ($1, 'group:' || $3::UUID::TEXT, 2), ($2, 'direct:' || $1::UUID::TEXT || ':' || $2::UUID::TEXT, 1)`},
	"location_sharing":  {`INSERT INTO location_sharing (user_id) VALUES ($1)`},
	"location_grants": {
		`INSERT INTO location_grants (id, user_id, audience, person_id, precision, purpose) VALUES (gen_random_uuid(), $1, 'person', $2, 12, $5), (gen_random_uuid(), $2, 'person', $1, 12, 'lunch')`,
	},
	"location_zones":    {`INSERT INTO location_zones (id, user_id, name, lat, lng, radius, precision) VALUES (gen_random_uuid(), $1, 'home of ' || $5, 1, 2, 300, 8)`},
	"location_links":    {`INSERT INTO location_links (id, user_id, token_hash, precision, purpose, expires_at) VALUES (gen_random_uuid(), $1, md5($5)::BYTEA, 12, $5, now())`},
	"location_asks":     {`INSERT INTO location_asks (id, asker, asked, message, precision, seconds, expires_at) VALUES (gen_random_uuid(), $1, $2, $5, 12, 60, now()), (gen_random_uuid(), $2, $1, 'hi ' || $5, 12, 60, now())`},
	"location_told":     {`INSERT INTO location_told (subject, room, precision, from_at, until_at) VALUES ($1, 'group:' || $3::UUID::TEXT, 12, now(), now()), ($2, 'direct:' || $1::UUID::TEXT || ':' || $2::UUID::TEXT, 12, now(), now())`},
	"location_followed": {`INSERT INTO location_followed (room, viewer, from_at, until_at) VALUES ('group:' || $3::UUID::TEXT, $1, now(), now()), ('direct:' || $1::UUID::TEXT || ':' || $2::UUID::TEXT, $2, now(), now())`},
	"location_reads":    {`INSERT INTO location_reads (subject, reader, how, precision, hour, first_at, last_at, reads) VALUES ($1, $2, 'group', 12, now(), now(), now(), 1), ($2, $1, 'group', 12, now(), now(), now(), 3), ($1, gen_random_uuid(), 'link', 12, now(), now(), now(), 1)`},
	"location_track":    {`INSERT INTO location_track (user_id, captured_at, sealed) VALUES ($1, now(), $5::BYTEA)`},
	"location_memories": {`INSERT INTO location_memories (user_id, version, sealed) VALUES ($1, 1, $5::BYTEA)`},
	"fences":            {`INSERT INTO fences (id, group_id, name, shape, created_by) VALUES (gen_random_uuid(), $3, 'the lake', '{}', $1)`},
	"fence_states": {`INSERT INTO fence_states (group_id, fence_id, user_id, other_id, revision, n, inside, at, crossing) VALUES
		($3, gen_random_uuid(), $1, '00000000-0000-0000-0000-000000000000', 1, 1, true, now(), gen_random_uuid()), ($3, '00000000-0000-0000-0000-000000000000', $2, $1, 1, 1, true, now(), gen_random_uuid())`},
	"fence_crossings": {`INSERT INTO fence_crossings (id, group_id, kind, fence_id, user_id, other_id, at) VALUES
		(gen_random_uuid(), $3, 'enter', gen_random_uuid(), $1, '00000000-0000-0000-0000-000000000000', now()), (gen_random_uuid(), $3, 'meet', gen_random_uuid(), $2, $1, now())`},
	"fleets":     {`INSERT INTO fleets (id, user_id, name) VALUES (gen_random_uuid(), $1, 'scooters of ' || $5)`},
	"fleet_keys": {`INSERT INTO fleet_keys (id, fleet_id, name, secret_hash) SELECT gen_random_uuid(), id, $5, md5($5)::BYTEA FROM fleets WHERE user_id = $1`},
	"notifications": {`INSERT INTO notifications (id, user_id, kind, data, about, once_key) VALUES
		(gen_random_uuid(), $1, 'new_login', jsonb_build_object('device', $5::TEXT), NULL, 'o' || $5), (gen_random_uuid(), $2, 'friend_request', jsonb_build_object('user_id', $1::UUID::TEXT), $1, NULL)`},
	"notify_deliveries":  {`INSERT INTO notify_deliveries (id, notification_id, channel, address, state) SELECT gen_random_uuid(), id, 'email', '', 'sent' FROM notifications WHERE user_id = $1 OR about = $1`},
	"notify_settings":    {`INSERT INTO notify_settings (user_id, language, time_zone) VALUES ($1, 'de', 'Europe/Berlin')`},
	"notify_preferences": {`INSERT INTO notify_preferences (user_id, kind, channel, enabled) VALUES ($1, 'friend_request', 'email', false)`},
	"notify_bulks":       {`INSERT INTO notify_bulks (id, kind, audience, position) VALUES (gen_random_uuid(), 'announcement', 'everybody', $1)`},
	"notify_keys":        {`INSERT INTO notify_keys (name, public, private) VALUES ('test', 'x', 'y')`},
	"mails":              {`INSERT INTO mails (id, kind, sealed, state) VALUES (gen_random_uuid(), 'verify_email', NULL, 'sent')`},
	"push_subscriptions": {`INSERT INTO push_subscriptions (id, user_id, login_id, endpoint_hash, sealed) VALUES (gen_random_uuid(), $1, $4, md5($5)::BYTEA, $5::BYTEA)`},
	"webhooks":           {`INSERT INTO webhooks (id, user_id, url, secret) VALUES (gen_random_uuid(), $1, 'https://example.org/' || $1::UUID::TEXT, 's')`},
	"jobs": {`INSERT INTO jobs (id, kind, shard, key, user_id, payload, state, run_at, max_attempts, last_error) VALUES (gen_random_uuid(), 'test', 1, $1::UUID::TEXT, $1, jsonb_build_object('user', $5::TEXT), 'dead', now(), 1, $5)`,
		`INSERT INTO jobs (id, kind, shard, payload, state, run_at, max_attempts, last_error) VALUES (gen_random_uuid(), 'webhook.group', 1,
			jsonb_build_object('event', jsonb_build_object('data', jsonb_build_object('user_id', $1::UUID::TEXT))), 'dead', now(), 1, 'no answer about ' || $1::UUID::TEXT)`},
	"job_periods":  {`INSERT INTO job_periods (name, period, outcome) VALUES ('test', now(), 'done')`},
	"outbox_sinks": {},
	"outbox_keys":  {`INSERT INTO outbox_keys (key, last) VALUES ('user:' || $1::UUID::TEXT, 7) ON CONFLICT (key) DO NOTHING`},
	"outbox": {`INSERT INTO outbox (sink, key, n, id, kind, data) VALUES ('kafka', 'user:' || $1::UUID::TEXT, 7, gen_random_uuid(), 'friend.requested', jsonb_build_object('user_id', $2::UUID::TEXT)),
		('kafka', 'user:' || $2::UUID::TEXT, 1, gen_random_uuid(), 'friend.requested', jsonb_build_object('user_id', $1::UUID::TEXT, 'by', $1::UUID::TEXT))`},
	"outbox_claims": {`INSERT INTO outbox_claims (sink, key, token, until) VALUES ('kafka', 'user:' || $1::UUID::TEXT, gen_random_uuid(), now())`},
	"objects":       {}, // by the catalog
	"attachments": {`INSERT INTO attachments (id, user_id, name, length, size, thumbnail, room, created_at) VALUES
		(gen_random_uuid(), $1, $5, 1, 1, 'attachments/' || $1::UUID::TEXT, 'direct:' || $1::UUID::TEXT || ':' || $2::UUID::TEXT, now())`},
	"attachment_chunks": {`INSERT INTO attachment_chunks (attachment_id, start, size, key) SELECT id, 0, 1, 'attachments/' || $1::UUID::TEXT || '/1' FROM attachments WHERE user_id = $1`},
	"subscriptions": {`INSERT INTO subscriptions (user_id, version, state, plan_id, amount, currency, months, payment_method, starts_at, ends_at, anchor_at, anchor_months)
		VALUES ($1, 1, 'active', 'plus', 399, 'EUR', 1, $5, now(), now(), now(), 1)`},
	"subscription_charges": {`INSERT INTO subscription_charges (id, user_id, period, plan_id, price, amount, currency, months, starts_at, ends_at, anchor_at, anchor_months, state, created_at)
		VALUES (gen_random_uuid(), $1, 1, 'plus', 399, 399, 'EUR', 1, now(), now(), now(), 1, 'paid', now())`},
	"plans":        {},
	"ledger_books": {`INSERT INTO ledger_books (book, seq, hash) VALUES ('user:' || $1::UUID::TEXT, 1, 'x'::BYTEA), ('group:' || $3::UUID::TEXT, 1, 'x'::BYTEA)`},
	"ledger_transactions": {`INSERT INTO ledger_transactions (book, seq, id, kind, ref, author, at, hash) VALUES ('user:' || $1::UUID::TEXT, 1, gen_random_uuid(), 'charge', gen_random_uuid(), NULL, now(), 'x'::BYTEA),
		('group:' || $3::UUID::TEXT, 1, gen_random_uuid(), 'expense', gen_random_uuid(), $1, now(), 'x'::BYTEA)`},
	"ledger_postings": {`INSERT INTO ledger_postings (book, seq, line, debtor, creditor, currency, amount) VALUES ('user:' || $1::UUID::TEXT, 1, 0, 'user:' || $1::UUID::TEXT, 'platform', 'EUR', 399),
		('group:' || $3::UUID::TEXT, 1, 0, 'member:' || $1::UUID::TEXT, 'member:' || $2::UUID::TEXT, 'EUR', 1240)`},
	"ledger_debts": {`INSERT INTO ledger_debts (book, a, b, currency, amount) VALUES ('user:' || $1::UUID::TEXT, 'platform', 'user:' || $1::UUID::TEXT, 'EUR', -399),
		('group:' || $3::UUID::TEXT, 'member:' || $1::UUID::TEXT, 'member:' || $2::UUID::TEXT, 'EUR', 1240)`},
	"expenses": {`INSERT INTO expenses (id, group_id, version, ordinal, title, category, note, spent_at, currency, amount, payers, paid, mode, members, parts, cuts, receipts, posted, created_by, created_at, changed_by, changed_at)
		VALUES (gen_random_uuid(), $3, 2, 0, 'dinner', 'food', $5, now(), 'EUR', 1240, ARRAY['member:' || $1::UUID::TEXT], ARRAY[1240], 'equal', ARRAY[$1, $2], ARRAY['', ''], ARRAY[620, 620], ARRAY[]::UUID[],
		  gen_random_uuid(), $1, now(), $2, now())`},
	"expense_versions": {`INSERT INTO expense_versions (expense_id, version, title, category, note, spent_at, currency, amount, payers, paid, mode, members, parts, cuts, receipts, posted, changed_by, changed_at)
		SELECT id, 1, title, category, $5, spent_at, currency, amount, payers, paid, mode, members, parts, cuts, receipts, posted, $1, now() FROM expenses`},
	"expense_wallets": {`INSERT INTO expense_wallets (group_id, currency, spent) VALUES ($3, 'EUR', 1240)`},
	"settlements": {`INSERT INTO settlements (id, group_id, kind, status, version, payer, payee, currency, amount, method, note, created_by, created_at, changed_at)
		VALUES (gen_random_uuid(), $3, 'payment', 'recorded', 1, 'member:' || $1::UUID::TEXT, 'member:' || $2::UUID::TEXT, 'EUR', 620, 'cash', $5, $1, now(), now())`},
	"recurring_expenses": {`INSERT INTO recurring_expenses (id, group_id, version, every, zone, starts_on, title, category, note, currency, amount, payers, paid, mode, members, parts, created_by, created_at, changed_at)
		VALUES (gen_random_uuid(), $3, 1, 'month', 'UTC', now()::DATE, 'rent', 'rent', $5, 'EUR', 90000, ARRAY['member:' || $1::UUID::TEXT], ARRAY[90000], 'equal', ARRAY[]::UUID[], ARRAY[]::TEXT[], $1, now(), now())`},
	"expense_notices": {`INSERT INTO expense_notices (group_id, told) VALUES ($3, 1)`},
	"plan_prices":     {},
	"payments": {`INSERT INTO payments (id, user_id, to_user, kind, ref, amount, currency, method, off_session, save, gateway, customer_id, status, version, created_at, updated_at)
		VALUES ('00000000-0000-4000-8000-000000000002', $1, $2, 'settlement', gen_random_uuid(), 620, 'EUR', $5, false, false, 'stripe', $5, 'created', 1, now(), now())`},
	"payment_refunds":    {`INSERT INTO payment_refunds (id, payment_id, amount, status, by_user, created_at) VALUES (gen_random_uuid(), '00000000-0000-4000-8000-000000000002', 1, 'pending', $1, now())`},
	"payment_history":    {`INSERT INTO payment_history (payment_id, version, status, refunded, reason, source, at) VALUES ('00000000-0000-4000-8000-000000000002', 1, 'created', 0, '', 'payer', now())`},
	"payment_events":     {`INSERT INTO payment_events (gateway, event_id, kind, payment_id, received_at) VALUES ('stripe', 'evt_1', 'payment_intent.succeeded', '00000000-0000-4000-8000-000000000002', now())`},
	"payment_customers":  {`INSERT INTO payment_customers (gateway, customer_id, user_id) VALUES ('stripe', 'cus_1', $1)`},
	"exports":            {`INSERT INTO exports (id, user_id) VALUES (gen_random_uuid(), $1)`},
	"idempotency_keys":   {`INSERT INTO idempotency_keys (user_id, key, request_hash, status, response) VALUES ($1, $5, 'h', 200, $5::BYTEA)`},
	"idempotent_answers": {`INSERT INTO idempotent_answers (id, user_id, request, answer, created_at) VALUES (md5($5)::BYTEA, $1, 'r', $5::BYTEA, now())`},
	"audit_events":       {`INSERT INTO audit_events (id, user_id, at, kind, login_id, network, data) VALUES (gen_random_uuid(), $1, now(), 'email_changed', $4, '192.0.2.0/24', jsonb_build_object('was', $5::TEXT))`},
	"account_tokens":     {`INSERT INTO account_tokens (hash, user_id, purpose, email, email_key, expires_at) VALUES (md5($5)::BYTEA, $1, 'reset', $5, lower($5), now())`},
	"google_identities":  {`INSERT INTO google_identities (subject, user_id, email) VALUES ('1234567890', $1, $5)`},
	"google_states":      {`INSERT INTO google_states (hash, login_id, expires_at) VALUES ('h', $4, now())`},
	"refresh_tokens":     {},
	"logins":             {`INSERT INTO logins (id, user_id, device_info, network) VALUES (gen_random_uuid(), $1, jsonb_build_object('owner', $5::TEXT), '192.0.2.0/24')`},
	"signing_keys":       {},
	"users":              {`UPDATE users SET profile_picture = 'https://example.org/' || $5, settings = jsonb_build_object('me', jsonb_build_array($5::TEXT, $1::UUID::TEXT)) WHERE id = $1`},
}

// fillAll fills every table with traces of Ana, with rows of Bob beside them.
func (b *bundle) fillAll(group core.GroupID) {
	b.t.Helper()
	var login core.LoginID
	require.NoError(b.t, b.db.Read(b.t.Context(), func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT id FROM logins WHERE user_id = $1`, b.ana).Scan(&login)
	}))
	for _, t := range slices.Backward(inventory) { // what is referred to comes first
		statements, ok := fill[t.name]
		require.True(b.t, ok, "%s: the test leaves no traces there", t.name)
		for _, sql := range statements {
			b.exec(strings.NewReplacer("$1", "'"+b.ana.String()+"'::UUID", "$2", "'"+b.bob.String()+"'::UUID", "$3", "'"+group.String()+"'::UUID",
				"$4", "'"+login.String()+"'::UUID", "$5", "'"+anaName+" <"+anaMail+">'::TEXT").Replace(sql))
		}
	}
	require.NoError(b.t, b.catalog.Reserve(b.t.Context(), b.ana, "picture", "pictures/a.jpg"))
	require.NoError(b.t, b.catalog.Put(b.t.Context(), "pictures/a.jpg", strings.NewReader("x"), 1, "image/jpeg"))
}

// unkept returns where Ana's id is, but for the books.
func (b *bundle) unkept() []string {
	b.t.Helper()
	var kept []string
	for _, t := range inventory {
		for _, c := range t.keep[inBooks] {
			kept = append(kept, t.name+"."+c)
		}
	}
	return slices.DeleteFunc(traces(b.t, b.db, b.ana.String()), func(c string) bool { return slices.Contains(kept, c) })
}

// confirmed is the proof of who may.
func confirmed(context.Context, pgx.Tx) error { return nil }

func TestNothingIsLeft(t *testing.T) {
	b := setup(t)
	alone, with, bobs := b.group(b.ana), b.group(b.ana, b.bob), b.group(b.bob, b.ana)
	b.fillAll(with)
	looks := []string{b.ana.String(), anaName, anaMail}

	// The test is worth something if there are traces wherever there is a rule.
	found := traces(t, b.db, looks...)
	for _, table := range inventory {
		for _, s := range table.steps {
			for _, c := range s.columns {
				switch key := table.name + "." + c; key {
				case "google_states.login_id", "refresh_tokens.login_id", "push_subscriptions.login_id", "audit_events.login_id",
					"fleet_keys.fleet_id", "notify_deliveries.notification_id", "logins.network", "objects.key", "attachment_chunks.attachment_id", "payment_customers.customer_id": // name somebody by a row elsewhere
				default:
					require.Contains(t, found, key, "the test leaves no trace there")
				}
			}
		}
	}
	bobsRows := func() int {
		return b.number(`SELECT (SELECT count(*) FROM logins WHERE user_id = $1) + (SELECT count(*) FROM messages WHERE sender = $1 AND body = 'not by the person')
			+ (SELECT count(*) FROM location_reads WHERE subject = $1) + (SELECT count(*) FROM users WHERE id = $1) + (SELECT count(*) FROM audit_events WHERE user_id = $1)
			+ (SELECT count(*) FROM account_tokens WHERE user_id = $1) + (SELECT count(*) FROM fences) + (SELECT count(*) FROM group_bans WHERE user_id = $1)
			+ (SELECT count(*) FROM ratings WHERE ratee = $1 AND stars = 4) + (SELECT count(*) FROM reports WHERE subject = $1)`, b.bob)
	}
	before := bobsRows()

	require.NoError(t, b.Delete(t.Context(), b.ana, confirmed))
	// At once: no name, no way in.
	_, err := b.auth.Authenticate(t.Context(), b.token)
	require.ErrorIs(t, err, auth.ErrSignedOut)
	_, err = b.auth.Login(t.Context(), anaMail, "correct horse battery", nil)
	require.ErrorIs(t, err, auth.ErrInvalidCredentials)
	require.Equal(t, 0, b.number(`SELECT count(*) FROM users WHERE lower(username) = lower($1) OR email_key = lower($2)`, anaName, anaMail))
	require.Equal(t, 1, b.number(`SELECT count(*) FROM users WHERE id = $1 AND deleted_at IS NOT NULL AND email IS NULL AND password_hash IS NULL AND settings = '{}'`, b.ana))
	require.Equal(t, []string{anaMail + " account_deleted " + anaName}, b.mails)
	require.ErrorIs(t, b.Delete(t.Context(), b.ana, confirmed), ErrNotFound, "twice")
	again, _ := b.register(anaName, anaMail)
	require.NotEqual(t, b.ana, again, "name and address are free")

	wait, err := b.Erase(t.Context(), b.ana)
	require.NoError(t, err)
	require.Greater(t, wait, 10*time.Minute)
	require.Equal(t, []core.UserID{b.ana}, b.gone)
	require.Empty(t, slices.DeleteFunc(b.unkept(), func(c string) bool {
		// An id without a name, which says which tokens are refused; what is to be
		// told to others; and the job.
		return slices.Contains([]string{"users.id", "logins.user_id", "fleets.user_id", "notify_bulks.position", "jobs.payload", "jobs.key", "jobs.last_error",
			"outbox.key", "outbox.data", "outbox_claims.key", "outbox_keys.key"}, c)
	}))

	// What was on its way when the account ended.
	b.exec(`INSERT INTO messages (room, number, id, sender, client_id, body, sent_at) VALUES ($1, 5, gen_random_uuid(), $2, 'late', 'late', now())`, with.Room(), b.ana)
	b.exec(`INSERT INTO group_members (group_id, user_id, role) VALUES ($1, $2, 'member')`, bobs, b.ana)
	b.advance(wait)
	wait, err = b.Erase(t.Context(), b.ana)
	require.NoError(t, err)
	require.Zero(t, wait)
	b.exec(`DELETE FROM jobs WHERE kind = $1`, eraseJob) // as it is when it is done
	// The new account has that name and that address.
	b.exec(`DELETE FROM users WHERE id = $1`, again)
	b.exec(`DELETE FROM outbox WHERE key = $1`, again.Key())
	require.Empty(t, b.unkept())
	require.Empty(t, traces(t, b.db, anaName, anaMail))
	require.Empty(t, traces(t, b.db, "Zaphodina's phone", "192.0.2.0/24"))

	// What is kept is whole.
	require.Equal(t, before, bobsRows(), "Bob lost nothing")
	require.Equal(t, 0, b.number(`SELECT count(*) FROM groups WHERE id = $1`, alone))
	require.Equal(t, 2, b.number(`SELECT count(*) FROM group_members WHERE user_id = $1 AND role = 'owner' AND group_id = ANY($2)`, b.bob, []core.GroupID{with, bobs}))
	require.Equal(t, 5, b.number(`SELECT count(DISTINCT number) FROM messages WHERE room = $1 AND number BETWEEN 1 AND 5`, with.Room()), "its numbers are dense")
	require.Equal(t, 4, b.number(`SELECT count(*) FROM messages m WHERE room = $1 AND body = '' AND NOT EXISTS (SELECT 1 FROM users u WHERE u.id = m.sender)`, with.Room()))
	require.Equal(t, 3, b.number(`SELECT reads FROM location_reads WHERE subject = $1`, b.bob), "that somebody looked stays")
	require.Equal(t, 1, b.number(`SELECT count(*) FROM location_followed`))
	_, err = b.catalog.Get(t.Context(), "pictures/a.jpg")
	require.ErrorIs(t, err, objects.ErrNotFound)

	wait, err = b.Erase(t.Context(), b.ana)
	require.NoError(t, err, "it can be repeated")
	require.Zero(t, wait)
}

// The job does it by itself, and a refused proof does nothing.
func TestDeleteByJob(t *testing.T) {
	b := setup(t)
	refused := auth.ErrWrongPassword
	require.ErrorIs(t, b.Delete(t.Context(), b.ana, func(context.Context, pgx.Tx) error { return refused }), refused)
	_, err := b.auth.Authenticate(t.Context(), b.token)
	require.NoError(t, err)
	_, err = b.Erase(t.Context(), b.ana)
	require.ErrorContains(t, err, "has not ended")

	b.cfg.TokenLife = time.Millisecond
	q := jobs.New(b.db, jobs.Config{})
	b.Handle(q)
	require.NoError(t, q.Start(t.Context()))
	t.Cleanup(q.Stop)
	require.NoError(t, b.Delete(t.Context(), b.ana, confirmed))
	require.Eventually(t, func() bool {
		return b.number(`SELECT (SELECT count(*) FROM users WHERE id = $1) + (SELECT count(*) FROM jobs)`, b.ana) == 0
	}, 30*time.Second, 20*time.Millisecond)
	b.exec(`DELETE FROM outbox`)
	require.Empty(t, b.unkept())
	require.Empty(t, traces(t, b.db, anaName, anaMail))
}

func TestExport(t *testing.T) {
	b := setup(t)
	group := b.group(b.ana, b.bob)
	b.fillAll(group)
	b.exec(`DELETE FROM exports`)
	_, err := b.Latest(t.Context(), b.ana)
	require.ErrorIs(t, err, ErrNoExport)
	e, err := b.Export(t.Context(), b.ana)
	require.NoError(t, err)
	require.False(t, e.Ready)
	same, err := b.Export(t.Context(), b.ana)
	require.NoError(t, err)
	require.Equal(t, e.ID, same.ID)
	require.NoError(t, b.write(t.Context(), b.ana, e.ID.String()))
	require.NoError(t, b.write(t.Context(), b.ana, e.ID.String()), "twice")
	require.Equal(t, []string{"export_ready"}, b.told)

	e, err = b.Latest(t.Context(), b.ana)
	require.NoError(t, err)
	require.True(t, e.Ready)
	token, ok := strings.CutPrefix(e.URL, "https://example.org/api/v1/exports/")
	require.True(t, ok)
	o, err := b.Download(t.Context(), token)
	require.NoError(t, err)
	data, err := io.ReadAll(o.Body)
	require.NoError(t, err)
	require.NoError(t, o.Body.Close())
	require.EqualValues(t, len(data), e.Size)

	var doc struct {
		User   string `json:"user_id"`
		Tables map[string][]map[string]any
		Track  []map[string]any
	}
	require.NoError(t, json.Unmarshal(data, &doc), "%s", data)
	require.Equal(t, b.ana.String(), doc.User)
	require.Equal(t, 45.3, doc.Track[0]["lat"])
	for _, table := range inventory {
		rows, there := doc.Tables[table.name]
		require.Equal(t, table.export != "", there, table.name)
		if there {
			require.NotEmpty(t, rows, table.name)
		}
	}
	require.Equal(t, anaMail, doc.Tables["users"][0]["email"])
	require.Equal(t, b.ana.String(), doc.Tables["users"][0]["id"])
	require.Len(t, doc.Tables["messages"], 4)
	require.Len(t, doc.Tables["blocks"], 1, "whom she blocked, not who blocked her")
	// No secret, and nothing that others wrote.
	for _, no := range []string{"password_hash", "argon2", "token_hash", "secret", "sealed", "not by the person"} {
		require.NotContains(t, string(data), no)
	}

	// Links lapse, and can't be made.
	flipped := []byte(token)
	flipped[5] ^= 1
	forged := []byte(token)
	if last := &forged[len(forged)-3]; *last == 'A' {
		*last = 'B'
	} else {
		*last = 'A'
	}
	for _, bad := range []string{"", "x", string(flipped), string(forged)} {
		_, err = b.Download(t.Context(), bad)
		require.ErrorIs(t, err, ErrNoExport, bad)
	}
	b.advance(linkLife + time.Second)
	_, err = b.Download(t.Context(), token)
	require.ErrorIs(t, err, ErrNoExport)
	same, err = b.Export(t.Context(), b.ana)
	require.NoError(t, err)
	require.Equal(t, e.ID, same.ID, "soon after it is the same")
	b.advance(exportAgain)
	other, err := b.Export(t.Context(), b.ana)
	require.NoError(t, err)
	require.NotEqual(t, e.ID, other.ID)
	b.advance(exportKeep)
	require.NoError(t, b.Sweep(t.Context()))
	require.NoError(t, b.catalog.Sweep(t.Context()))
	_, err = b.catalog.Get(t.Context(), exportKey(e.ID))
	require.ErrorIs(t, err, objects.ErrNotFound)

	// Whoever has a link has nothing any more once the account has ended, even before
	// the job comes to it.
	last, err := b.Export(t.Context(), b.ana)
	require.NoError(t, err)
	require.NoError(t, b.write(t.Context(), b.ana, last.ID.String()))
	link := b.Store.token(last.ID, b.clock().Add(linkLife))
	o, err = b.Download(t.Context(), link)
	require.NoError(t, err)
	require.NoError(t, o.Body.Close())
	require.NoError(t, b.Delete(t.Context(), b.ana, confirmed))
	_, err = b.Download(t.Context(), link)
	require.ErrorIs(t, err, ErrNoExport)

	// One that is made while the account ends is nobody's.
	require.NoError(t, b.write(t.Context(), b.ana, uuid.NewString()))
}

// What is put in the store after the account was erased is found, and deleted.
func TestPutAfterErase(t *testing.T) {
	b := setup(t)
	for _, key := range []string{"exports/late.json", "exports/crashed.json"} {
		require.NoError(t, b.catalog.Reserve(t.Context(), b.ana, kindExport, key))
	}
	require.NoError(t, b.Delete(t.Context(), b.ana, confirmed))
	b.advance(b.cfg.TokenLife)
	wait, err := b.Erase(t.Context(), b.ana)
	require.NoError(t, err)
	require.Zero(t, wait)
	require.NoError(t, b.catalog.Sweep(t.Context()))
	for _, key := range []string{"exports/late.json", "exports/crashed.json"} {
		require.NoError(t, b.catalog.Put(t.Context(), key, strings.NewReader("x"), 1, "application/json"))
	}
	require.ErrorIs(t, b.db.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		return b.catalog.Keep(ctx, tx, time.Time{}, "exports/late.json")
	}), objects.ErrNotFound)
	b.advance(2 * time.Hour)
	require.NoError(t, b.catalog.Sweep(t.Context()))
	for _, key := range []string{"exports/late.json", "exports/crashed.json"} {
		_, err = b.catalog.Get(t.Context(), key)
		require.ErrorIs(t, err, objects.ErrNotFound, key)
	}
	require.Zero(t, b.number(`SELECT count(*) FROM objects`))
}
