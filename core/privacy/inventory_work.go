package privacy

var aboutTelling = []table{
	{
		name: "notify_deliveries",
		steps: []step{{columns: cols("notification_id"), do: erase,
			sql: `DELETE FROM notify_deliveries WHERE notification_id IN (SELECT id FROM notifications WHERE user_id = $1 OR about = $1)`}},
		rows: cols("address", "detail"),
		keep: map[string][]string{random: cols("id"), technics: cols("channel", "state")},
		export: `SELECT d.notification_id, d.channel, d.state, d.created_at, d.updated_at FROM notify_deliveries d
			JOIN notifications n ON n.id = d.notification_id WHERE n.user_id = $1 ORDER BY d.created_at`,
	},
	{
		name:   "notifications",
		steps:  []step{{columns: cols("user_id", "about", "data"), do: erase, sql: `DELETE FROM notifications WHERE user_id = $1 OR about = $1`}},
		rows:   cols("once_key"),
		keep:   map[string][]string{random: cols("id"), technics: cols("kind")},
		export: `SELECT id, kind, data, created_at, read_at FROM notifications WHERE user_id = $1 ORDER BY created_at`,
	},
	{
		name:   "notify_settings",
		steps:  []step{{columns: cols("user_id"), do: erase, sql: `DELETE FROM notify_settings WHERE user_id = $1`}},
		rows:   cols("language", "time_zone"),
		export: `SELECT language, time_zone, quiet_from, quiet_until FROM notify_settings WHERE user_id = $1`,
	},
	{
		name:   "notify_preferences",
		steps:  []step{{columns: cols("user_id"), do: erase, sql: `DELETE FROM notify_preferences WHERE user_id = $1`}},
		keep:   map[string][]string{technics: cols("kind", "channel")},
		export: `SELECT kind, channel, enabled FROM notify_preferences WHERE user_id = $1 ORDER BY kind, channel`,
	},
	{
		name:   "push_subscriptions",
		steps:  []step{{columns: cols("user_id", "login_id"), do: erase, sql: `DELETE FROM push_subscriptions WHERE user_id = $1`}},
		rows:   cols("endpoint_hash", "sealed"),
		keep:   map[string][]string{random: cols("id")},
		export: `SELECT id, login_id, created_at FROM push_subscriptions WHERE user_id = $1 ORDER BY created_at`,
	},
	{
		name:   "webhooks",
		steps:  []step{{columns: cols("user_id"), do: erase, sql: `DELETE FROM webhooks WHERE user_id = $1`}},
		rows:   cols("secret", "detail"),
		keep:   map[string][]string{random: cols("id"), ofGroup: cols("group_id", "url")},
		export: `SELECT id, url, created_at, delivered_at, disabled_at FROM webhooks WHERE user_id = $1 ORDER BY created_at`,
	},
	{
		name: "notify_bulks",
		// Who had it last is named by the place it goes on from: that of the user
		// before them is as good.
		steps: []step{{columns: cols("position"), do: anonymise, last: true,
			sql: `UPDATE notify_bulks SET position = coalesce((SELECT id FROM users WHERE id < $1::UUID ORDER BY id DESC LIMIT 1), '00000000-0000-0000-0000-000000000000'::UUID) WHERE position = $1::UUID`}},
		keep:   map[string][]string{random: cols("id"), technics: cols("kind", "audience"), ofGroup: cols("argument"), "written for many, by whoever runs the deployment": cols("data")},
		hidden: notTheirs,
	},
	{
		name:   "mails",
		keep:   map[string][]string{random: cols("id"), technics: cols("kind", "state", "detail"), "sealed, and gone once the mail was sent or given up: the last one says that the account was deleted": cols("sealed")},
		hidden: "what was mailed was received",
	},
	{
		name:   "notify_keys",
		keep:   map[string][]string{secrets: cols("name", "public", "private")},
		hidden: noPeople,
	},
	{
		// Those that are about nobody in particular may name somebody: a copy that
		// could not be made, a call of a group's webhook that failed to the last. The
		// one that does all this goes by itself.
		name: "jobs",
		steps: []step{
			{columns: cols("user_id"), do: erase, sql: `DELETE FROM jobs WHERE user_id = $1`},
			{columns: cols("payload", "last_error"), do: anonymise, last: true, sql: `UPDATE jobs
				SET payload = replace(payload::TEXT, $1::UUID::TEXT, '00000000-0000-0000-0000-000000000000')::JSONB,
				  last_error = replace(last_error, $1::UUID::TEXT, '00000000-0000-0000-0000-000000000000')
				WHERE kind <> 'privacy.erase' AND (strpos(payload::TEXT, $1::UUID::TEXT) > 0 OR strpos(last_error, $1::UUID::TEXT) > 0)`},
		},
		rows:   cols("key", "note"),
		keep:   map[string][]string{random: cols("id", "lease", "trace"), technics: cols("kind", "state")},
		hidden: forWork,
	},
	{
		name:   "job_periods",
		keep:   map[string][]string{technics: cols("name", "outcome")},
		hidden: noPeople,
	},
	{
		name:   "outbox_sinks",
		keep:   map[string][]string{technics: cols("name", "scope")},
		hidden: noPeople,
	},
	{
		// What waits is sent first, if it can be: it tells others that somebody left.
		name: "outbox",
		steps: []step{
			{columns: cols("key"), do: erase, last: true, sql: `DELETE FROM outbox WHERE key = 'user:' || $1::UUID::TEXT`},
			{columns: cols("data"), do: anonymise, last: true, sql: `UPDATE outbox
				SET data = replace(data::TEXT, $1::UUID::TEXT, '00000000-0000-0000-0000-000000000000')::JSONB WHERE strpos(data::TEXT, $1::UUID::TEXT) > 0`},
		},
		keep:   map[string][]string{random: cols("id"), technics: cols("sink", "kind")},
		hidden: forWork,
	},
	{
		name:   "outbox_claims",
		steps:  []step{{columns: cols("key"), do: erase, last: true, sql: `DELETE FROM outbox_claims WHERE key = 'user:' || $1::UUID::TEXT`}},
		keep:   map[string][]string{random: cols("token"), technics: cols("sink")},
		hidden: forWork,
	},
	{
		name:   "outbox_keys",
		steps:  []step{{columns: cols("key"), do: erase, last: true, sql: `DELETE FROM outbox_keys WHERE key = 'user:' || $1::UUID::TEXT`}},
		hidden: forWork,
	},
}

var aboutAccounts = []table{
	{
		name: "attachment_chunks",
		steps: []step{{columns: cols("attachment_id", "key"), do: erase,
			sql: `DELETE FROM attachment_chunks WHERE attachment_id IN (SELECT id FROM attachments WHERE user_id = $1)`}},
		hidden: forWork,
	},
	{
		name:   "attachments",
		steps:  []step{{columns: cols("user_id", "name", "thumbnail", "room"), do: erase, sql: `DELETE FROM attachments WHERE user_id = $1`}},
		keep:   map[string][]string{random: cols("id"), technics: cols("type")},
		export: `SELECT id, name, type, size, room, created_at, finished_at FROM attachments WHERE user_id = $1 ORDER BY created_at`,
	},
	{
		name:   "objects",
		steps:  []step{{columns: cols("user_id", "key"), do: erase, by: "Objects.Erase: with what they name in the object store"}},
		keep:   map[string][]string{technics: cols("kind")},
		export: `SELECT key, kind, created_at, expires_at FROM objects WHERE user_id = $1 ORDER BY created_at`,
	},
	{
		name:   "exports",
		steps:  []step{{columns: cols("user_id"), do: erase, sql: `DELETE FROM exports WHERE user_id = $1`}},
		keep:   map[string][]string{random: cols("id")},
		export: `SELECT id, created_at, ready_at, expires_at, size FROM exports WHERE user_id = $1 ORDER BY created_at`,
	},
	{
		name:   "idempotency_keys",
		steps:  []step{{columns: cols("user_id"), do: erase, sql: `DELETE FROM idempotency_keys WHERE user_id = $1`}},
		rows:   cols("key", "request_hash", "response"),
		hidden: "answers that were given, kept for a day to give them again",
	},
	{
		name:   "idempotent_answers",
		steps:  []step{{columns: cols("user_id"), do: erase, sql: `DELETE FROM idempotent_answers WHERE user_id = $1`}},
		rows:   cols("id", "request", "answer"),
		hidden: "answers that were given, sealed, kept for a day to give them again",
	},
	{
		name:   "audit_events",
		steps:  []step{{columns: cols("user_id", "login_id"), do: erase, sql: `DELETE FROM audit_events WHERE user_id = $1`}},
		rows:   cols("network", "data"),
		keep:   map[string][]string{random: cols("id"), technics: cols("kind")},
		export: `SELECT at, kind, login_id, network, data FROM audit_events WHERE user_id = $1 ORDER BY at`,
	},
	{
		name:   "account_tokens",
		steps:  []step{{columns: cols("user_id"), do: erase, sql: `DELETE FROM account_tokens WHERE user_id = $1`}},
		rows:   cols("hash", "email", "email_key"),
		keep:   map[string][]string{technics: cols("purpose")},
		hidden: noSecrets,
	},
	{
		name:   "google_identities",
		steps:  []step{{columns: cols("user_id"), do: erase, sql: `DELETE FROM google_identities WHERE user_id = $1`}},
		rows:   cols("subject", "email"),
		export: `SELECT subject, email, created_at FROM google_identities WHERE user_id = $1`,
	},
	{
		name:   "google_states",
		steps:  []step{{columns: cols("login_id"), do: erase, sql: `DELETE FROM google_states WHERE login_id IN (SELECT id FROM logins WHERE user_id = $1)`}},
		rows:   cols("hash"),
		hidden: noSecrets,
	},
	{
		name:   "refresh_tokens",
		steps:  []step{{columns: cols("login_id"), do: erase, sql: `DELETE FROM refresh_tokens WHERE login_id IN (SELECT id FROM logins WHERE user_id = $1)`}},
		rows:   cols("hash"),
		hidden: noSecrets,
	},
	{
		name: "logins",
		steps: []step{
			{columns: cols("device_info", "network"), do: anonymise, sql: `UPDATE logins SET device_info = '{}', network = '' WHERE user_id = $1`},
			{columns: cols("user_id"), do: erase, last: true, sql: `DELETE FROM logins WHERE user_id = $1`},
		},
		keep:   map[string][]string{random: cols("id"), technics: cols("revoke_reason")},
		export: `SELECT id, device_info, network, created_at, revoked_at, revoke_reason FROM logins WHERE user_id = $1 ORDER BY created_at`,
	},
	{
		name:   "signing_keys",
		keep:   map[string][]string{secrets: cols("kid", "private_key", "public_key")},
		hidden: noPeople,
	},
	{
		// Its name and credentials went in the transaction that ended the account.
		name:   "users",
		steps:  []step{{columns: cols("id"), do: erase, last: true, sql: `DELETE FROM users WHERE id = $1 AND deleted_at IS NOT NULL`}},
		rows:   cols("username", "username_key", "email", "email_key", "password_hash", "profile_picture", "settings"),
		keep:   map[string][]string{place: cols("home_region")},
		export: `SELECT id, username, email, email_verified_at, guest, profile_picture, settings, home_region, created_at, updated_at FROM users WHERE id = $1`,
	},
}
