package privacy

import "slices"

// table is what is known of one table: together the columns that are named below
// are all its columns that could hold an id or a text.
type table struct {
	name  string
	steps []step
	// rows are columns whose content goes with the row, which the steps erase.
	rows []string
	// keep are columns that stay, by the reason.
	keep map[string][]string
	// export is what of the table a person gets who asks for their data; $1 is
	// their id. Secrets, and what others did, are not in it.
	export string
	// hidden is why there is no export.
	hidden string
}

// step is a statement that leaves no trace of a person in some columns; $1 is
// their id. It can be repeated.
type step struct {
	columns []string // that held the person
	do      action
	last    bool // only when nothing can be on its way any more
	sql     string
	by      string // what does it instead of a statement
}

type action string

const (
	erase     action = "erase"
	anonymise action = "anonymise"
)

func cols(names ...string) []string { return names }

// Reasons for what is kept.
const (
	random   = "an id made by chance, of something that is no person"
	technics = "chosen by the software from a few words"
	ofGroup  = "the group's own: its members agreed on it, and it stays while there is one"
	place    = "the name of a region"
	secrets  = "of the deployment, of nobody"
)

const (
	notTheirs = "what others decided or did"
	forWork   = "the software's own notes"
	noSecrets = "it proves who somebody is, and tells nothing"
	noPeople  = "nothing in it is a person's"
)

// inventory is in the order in which the steps are done: what refers to a row
// before that row.
var inventory = slices.Concat(aboutPeople, aboutGroups, aboutPlaces, aboutTelling, aboutExpenses, aboutLedger, aboutPayments, aboutSubscriptions, aboutAccounts)

var aboutPeople = []table{
	{
		name:   "presence",
		steps:  []step{{columns: cols("user_id"), do: erase, sql: `DELETE FROM presence WHERE user_id = $1`}},
		keep:   map[string][]string{technics: cols("last_seen_audience")},
		export: `SELECT invisible, last_seen_audience, last_seen FROM presence WHERE user_id = $1`,
	},
	{
		name: "blocks",
		steps: []step{
			{columns: cols("blocker", "blocked"), do: erase, sql: `DELETE FROM blocks WHERE blocker = $1 OR blocked = $1`},
		},
		export: `SELECT blocked, created_at FROM blocks WHERE blocker = $1 ORDER BY created_at`,
	},
	{
		name: "friend_requests",
		steps: []step{
			{columns: cols("requester", "requested"), do: erase, sql: `DELETE FROM friend_requests WHERE requester = $1 OR requested = $1`},
		},
		keep:   map[string][]string{technics: cols("state")},
		export: `SELECT requester, requested, state, created_at, answered_at FROM friend_requests WHERE requester = $1 OR requested = $1 AND state = 'open' ORDER BY created_at`,
	},
	{
		name:   "friends",
		steps:  []step{{columns: cols("user_id", "friend_id"), do: erase, sql: `DELETE FROM friends WHERE user_id = $1 OR friend_id = $1`}},
		export: `SELECT friend_id, since FROM friends WHERE user_id = $1 ORDER BY since`,
	},
	{
		name:   "friend_settings",
		steps:  []step{{columns: cols("user_id"), do: erase, sql: `DELETE FROM friend_settings WHERE user_id = $1`}},
		keep:   map[string][]string{technics: cols("requests")},
		export: `SELECT discoverable, requests FROM friend_settings WHERE user_id = $1`,
	},
	{
		name:   "matching_profiles",
		steps:  []step{{columns: cols("user_id", "say", "interests"), do: erase, sql: `DELETE FROM matching_profiles WHERE user_id = $1`}},
		export: `SELECT open, interests, radius, max_age, min_rating, say FROM matching_profiles WHERE user_id = $1`,
	},
	{
		name:   "matching_shown",
		steps:  []step{{columns: cols("viewer", "shown"), do: erase, sql: `DELETE FROM matching_shown WHERE viewer = $1 OR shown = $1`}},
		hidden: forWork,
	},
	{
		name: "talk_requests",
		steps: []step{
			{columns: cols("asker", "asked", "say"), do: erase, sql: `DELETE FROM talk_requests WHERE asker = $1 OR asked = $1`},
		},
		keep:   map[string][]string{random: cols("id"), technics: cols("state")},
		export: `SELECT id, asker, asked, say, state, created_at, answered_at FROM talk_requests WHERE asker = $1 OR asked = $1 AND state = 'open' ORDER BY created_at`,
	},
	{
		name:   "talks",
		steps:  []step{{columns: cols("asker", "asked"), do: erase, sql: `DELETE FROM talks WHERE asker = $1 OR asked = $1`}},
		keep:   map[string][]string{random: cols("id")},
		export: `SELECT id, asker, asked, opened_at, ended_at FROM talks WHERE asker = $1 OR asked = $1 ORDER BY opened_at`,
	},
	{
		name:   "user_terms",
		steps:  []step{{columns: cols("user_id"), do: erase, sql: `DELETE FROM user_terms WHERE user_id = $1`}},
		rows:   cols("term"),
		hidden: "an index of names that are in the profile",
	},
	{
		name:   "encounter_people",
		steps:  []step{{columns: cols("user_id"), do: erase, sql: `DELETE FROM encounter_people WHERE user_id = $1`}},
		keep:   map[string][]string{random: cols("encounter_id")},
		export: `SELECT e.id, e.kind, e.opened_at, e.window_ends FROM encounter_people p JOIN encounters e ON e.id = p.encounter_id WHERE p.user_id = $1 ORDER BY e.opened_at`,
	},
	{
		// The stars that they gave are others'; what they wrote is not.
		name: "ratings",
		steps: []step{
			{columns: cols("ratee"), do: erase, sql: `DELETE FROM ratings WHERE ratee = $1`},
			{columns: cols("rater", "text"), do: anonymise, sql: `UPDATE ratings SET rater = NULL, text = '' WHERE rater = $1`},
		},
		keep: map[string][]string{random: cols("id", "encounter_id")},
		export: `SELECT encounter_id, ratee, stars, text, revealed_at FROM ratings
			WHERE rater = $1 OR ratee = $1 AND revealed_at IS NOT NULL ORDER BY revealed_at, id`,
	},
	{
		name:   "encounters",
		keep:   map[string][]string{random: cols("id"), technics: cols("kind")},
		hidden: "with the people who took part",
	},
	{
		// What is left of a report is about somebody else.
		name: "reports",
		steps: []step{
			{columns: cols("subject"), do: erase, sql: `DELETE FROM reports WHERE subject = $1`},
			{columns: cols("reporter", "text", "room"), do: anonymise, sql: `UPDATE reports SET reporter = NULL, text = '',
				room = CASE WHEN strpos(room, $1::UUID::TEXT) > 0 THEN '' ELSE room END WHERE reporter = $1`},
		},
		rows:   cols("evidence"),
		keep:   map[string][]string{random: cols("id"), technics: cols("reason"), "written by whoever runs the deployment": cols("outcome")},
		export: `SELECT id, subject, room, number, reason, text, created_at, closed_at FROM reports WHERE reporter = $1 ORDER BY created_at`,
	},
}

var aboutGroups = []table{
	{
		name:   "group_members",
		steps:  []step{{columns: cols("user_id"), do: erase, by: "Groups.Depart: the ownership passes on, or the group goes"}},
		keep:   map[string][]string{technics: cols("role"), random: cols("group_id")},
		export: `SELECT m.group_id, g.name, m.role, m.joined_at FROM group_members m JOIN groups g ON g.id = m.group_id WHERE m.user_id = $1 ORDER BY m.joined_at`,
	},
	{
		name: "group_bans",
		steps: []step{
			{columns: cols("user_id"), do: erase, sql: `DELETE FROM group_bans WHERE user_id = $1`},
			{columns: cols("banned_by"), do: anonymise, sql: `UPDATE group_bans SET banned_by = NULL WHERE banned_by = $1`},
		},
		keep:   map[string][]string{random: cols("group_id"), ofGroup: cols("reason")},
		hidden: notTheirs,
	},
	{
		name:   "invites",
		steps:  []step{{columns: cols("created_by"), do: erase, sql: `DELETE FROM invites WHERE created_by = $1`}},
		rows:   cols("code"),
		keep:   map[string][]string{random: cols("group_id")},
		export: `SELECT code, group_id, created_at, expires_at, max_uses, uses, revoked_at FROM invites WHERE created_by = $1 ORDER BY created_at`,
	},
	{
		name:   "group_terms",
		keep:   map[string][]string{ofGroup: cols("term"), random: cols("group_id")},
		hidden: noPeople,
	},
	{
		name:   "groups",
		keep:   map[string][]string{ofGroup: cols("name", "description", "avatar", "settings"), random: cols("id"), place: cols("home_region")},
		hidden: "what it says of itself is with the memberships",
	},
	{
		// What belongs to messages goes before them: it is found by who sent them.
		name: "message_edits",
		steps: []step{
			{columns: cols("room"), do: erase, sql: `DELETE FROM message_edits WHERE room NOT LIKE 'group:%' AND strpos(room, $1::UUID::TEXT) > 0`},
			{columns: cols("body"), do: erase, sql: `DELETE FROM message_edits e USING messages m WHERE m.room = e.room AND m.number = e.number AND m.sender = $1`},
		},
		export: `SELECT e.room, e.number, e.body, e.written_at FROM message_edits e JOIN messages m ON m.room = e.room AND m.number = e.number
			WHERE m.sender = $1 ORDER BY e.written_at`,
	},
	{
		name: "message_mentions",
		steps: []step{{columns: cols("room", "user_id"), do: erase, sql: `DELETE FROM message_mentions x WHERE x.user_id = $1 OR x.room NOT LIKE 'group:%' AND strpos(x.room, $1::UUID::TEXT) > 0
			OR EXISTS (SELECT 1 FROM messages m WHERE m.room = x.room AND m.number = x.number AND m.sender = $1)`}},
		export: `SELECT room, number FROM message_mentions WHERE user_id = $1 ORDER BY room, number`,
	},
	{
		name: "message_attachments",
		steps: []step{{columns: cols("room", "name"), do: erase, sql: `DELETE FROM message_attachments x WHERE x.room NOT LIKE 'group:%' AND strpos(x.room, $1::UUID::TEXT) > 0
			OR EXISTS (SELECT 1 FROM messages m WHERE m.room = x.room AND m.number = x.number AND m.sender = $1)`}},
		keep: map[string][]string{random: cols("id"), technics: cols("type")},
		export: `SELECT x.room, x.number, x.id, x.name, x.type, x.size FROM message_attachments x JOIN messages m ON m.room = x.room AND m.number = x.number
			WHERE m.sender = $1 ORDER BY x.room, x.number, x.place`,
	},
	{
		name: "message_reactions",
		steps: []step{{columns: cols("room", "user_id"), do: erase, sql: `DELETE FROM message_reactions x WHERE x.user_id = $1 OR x.room NOT LIKE 'group:%' AND strpos(x.room, $1::UUID::TEXT) > 0
			OR EXISTS (SELECT 1 FROM messages m WHERE m.room = x.room AND m.number = x.number AND m.sender = $1)`}},
		rows:   cols("emoji"),
		export: `SELECT room, number, emoji, reacted_at FROM message_reactions WHERE user_id = $1 ORDER BY reacted_at`,
	},
	{
		name:   "message_hidden",
		steps:  []step{{columns: cols("room", "user_id"), do: erase, sql: `DELETE FROM message_hidden WHERE user_id = $1 OR room NOT LIKE 'group:%' AND strpos(room, $1::UUID::TEXT) > 0`}},
		export: `SELECT room, number FROM message_hidden WHERE user_id = $1 ORDER BY room, number`,
	},
	{
		// A call of others goes on.
		name: "calls",
		steps: []step{
			{columns: cols("room"), do: erase, sql: `DELETE FROM calls WHERE room LIKE 'direct:%' AND strpos(room, $1::UUID::TEXT) > 0`},
			{columns: cols("started_by"), do: anonymise, sql: `UPDATE calls SET started_by = NULL WHERE started_by = $1`},
		},
		keep:   map[string][]string{random: cols("id", "group_id"), technics: cols("type"), place: cols("home_region")},
		export: `SELECT id, room, type, started_at, ended_at FROM calls WHERE started_by = $1 ORDER BY started_at`,
	},
	{
		name:   "call_people",
		steps:  []step{{columns: cols("user_id"), do: erase, sql: `DELETE FROM call_people WHERE user_id = $1`}},
		keep:   map[string][]string{random: cols("call_id")},
		export: `SELECT p.call_id, c.room, c.started_at FROM call_people p JOIN calls c ON c.id = p.call_id WHERE p.user_id = $1 ORDER BY c.started_at`,
	},
	{
		name:   "call_servers",
		keep:   map[string][]string{random: cols("call_id"), technics: cols("node")},
		hidden: noPeople,
	},
	{
		name:   "conversation_people",
		steps:  []step{{columns: cols("room", "user_id"), do: erase, sql: `DELETE FROM conversation_people WHERE user_id = $1 OR room LIKE 'direct:%' AND strpos(room, $1::UUID::TEXT) > 0`}},
		export: `SELECT room, since, left_at FROM conversation_people WHERE user_id = $1 ORDER BY since, room`,
	},
	{
		name:   "conversations",
		steps:  []step{{columns: cols("room"), do: erase, sql: `DELETE FROM conversations WHERE room LIKE 'direct:%' AND strpos(room, $1::UUID::TEXT) > 0`}},
		keep:   map[string][]string{place: cols("home_region")},
		hidden: "with the people in them",
	},
	{
		name:   "conversation_mutes",
		steps:  []step{{columns: cols("room", "user_id"), do: erase, sql: `DELETE FROM conversation_mutes WHERE user_id = $1 OR room LIKE 'direct:%' AND strpos(room, $1::UUID::TEXT) > 0`}},
		export: `SELECT room, until FROM conversation_mutes WHERE user_id = $1 ORDER BY room`,
	},
	{
		name:   "conversation_settings",
		steps:  []step{{columns: cols("user_id"), do: erase, sql: `DELETE FROM conversation_settings WHERE user_id = $1`}},
		keep:   map[string][]string{technics: cols("receipts", "messages_from")},
		export: `SELECT receipts, messages_from FROM conversation_settings WHERE user_id = $1`,
	},
	{
		// A device is named by a login, or by its app.
		name:   "receipts",
		steps:  []step{{columns: cols("room", "user_id"), do: erase, sql: `DELETE FROM receipts WHERE user_id = $1 OR room LIKE 'direct:%' AND strpos(room, $1::UUID::TEXT) > 0`}},
		rows:   cols("device"),
		export: `SELECT room, device, delivered, read, at FROM receipts WHERE user_id = $1 ORDER BY room, device`,
	},
	{
		// Rooms are found by their own table: there is no index of senders, which
		// every message would pay for.
		name: "messages",
		steps: []step{
			{columns: cols("room"), do: erase, sql: `DELETE FROM messages WHERE room IN (SELECT room FROM rooms WHERE room NOT LIKE 'group:%' AND strpos(room, $1::UUID::TEXT) > 0)`},
			{columns: cols("sender", "client_id", "body"), do: anonymise, sql: `WITH mine AS MATERIALIZED (
				  SELECT r.room, gen_random_uuid() AS nobody FROM rooms r
				  WHERE EXISTS (SELECT 1 FROM messages m WHERE m.room = r.room AND m.sender = $1))
				UPDATE messages SET sender = mine.nobody, client_id = gen_random_uuid()::TEXT, body = '', parts = false,
				  edited_at = NULL, pinned_at = NULL, deleted_at = COALESCE(deleted_at, now())
				FROM mine WHERE messages.room = mine.room AND messages.sender = $1`},
		},
		keep: map[string][]string{random: cols("id")},
		export: `SELECT m.room, m.number, m.body, m.sent_at FROM rooms r JOIN messages m ON m.room = r.room AND m.sender = $1
			WHERE EXISTS (SELECT 1 FROM messages x WHERE x.room = r.room AND x.sender = $1) ORDER BY m.sent_at`,
	},
	{
		name:   "rooms",
		steps:  []step{{columns: cols("room"), do: erase, sql: `DELETE FROM rooms WHERE room NOT LIKE 'group:%' AND strpos(room, $1::UUID::TEXT) > 0`}},
		hidden: forWork,
	},
}

var aboutPlaces = []table{
	{
		name:   "location_sharing",
		steps:  []step{{columns: cols("user_id"), do: erase, sql: `DELETE FROM location_sharing WHERE user_id = $1`}},
		export: `SELECT paused, paused_until, track, track_days FROM location_sharing WHERE user_id = $1`,
	},
	{
		name:   "location_grants",
		steps:  []step{{columns: cols("user_id", "person_id"), do: erase, sql: `DELETE FROM location_grants WHERE user_id = $1 OR person_id = $1`}},
		rows:   cols("purpose"),
		keep:   map[string][]string{random: cols("id", "group_id"), technics: cols("audience")},
		export: `SELECT audience, person_id, group_id, precision, purpose, expires_at, created_at FROM location_grants WHERE user_id = $1 ORDER BY created_at`,
	},
	{
		name:   "location_zones",
		steps:  []step{{columns: cols("user_id"), do: erase, sql: `DELETE FROM location_zones WHERE user_id = $1`}},
		rows:   cols("name"),
		keep:   map[string][]string{random: cols("id")},
		export: `SELECT name, lat, lng, radius, precision, created_at FROM location_zones WHERE user_id = $1 ORDER BY created_at`,
	},
	{
		name:   "location_links",
		steps:  []step{{columns: cols("user_id"), do: erase, sql: `DELETE FROM location_links WHERE user_id = $1`}},
		rows:   cols("purpose", "token_hash"),
		keep:   map[string][]string{random: cols("id")},
		export: `SELECT precision, purpose, created_at, expires_at FROM location_links WHERE user_id = $1 ORDER BY created_at`,
	},
	{
		name:   "location_asks",
		steps:  []step{{columns: cols("asker", "asked"), do: erase, sql: `DELETE FROM location_asks WHERE asker = $1 OR asked = $1`}},
		rows:   cols("message"),
		keep:   map[string][]string{random: cols("id"), technics: cols("state")},
		export: `SELECT asker, asked, message, precision, seconds, state, created_at, expires_at, answered_at FROM location_asks WHERE asker = $1 OR asked = $1 ORDER BY created_at`,
	},
	{
		name: "location_told",
		steps: []step{
			{columns: cols("subject"), do: erase, sql: `DELETE FROM location_told WHERE subject = $1`},
			{columns: cols("room"), do: erase, sql: `DELETE FROM location_told WHERE room >= 'direct:' AND room < 'direct;' AND strpos(room, $1::UUID::TEXT) > 0`},
		},
		export: `SELECT room, precision, from_at, until_at FROM location_told WHERE subject = $1 ORDER BY from_at`,
	},
	{
		// That somebody followed where others are stays theirs to know.
		name: "location_followed",
		steps: []step{
			{columns: cols("room"), do: erase, sql: `DELETE FROM location_followed WHERE room >= 'direct:' AND room < 'direct;' AND strpos(room, $1::UUID::TEXT) > 0`},
			{columns: cols("viewer"), do: anonymise, sql: `UPDATE location_followed SET viewer = (SELECT gen_random_uuid()) WHERE viewer = $1`},
		},
		export: `SELECT room, from_at, until_at FROM location_followed WHERE viewer = $1 ORDER BY from_at`,
	},
	{
		name: "location_reads",
		steps: []step{
			{columns: cols("subject"), do: erase, sql: `DELETE FROM location_reads WHERE subject = $1`},
			{columns: cols("reader"), do: anonymise, sql: `UPDATE location_reads SET reader = (SELECT gen_random_uuid()) WHERE reader = $1`},
		},
		keep: map[string][]string{technics: cols("how")},
		export: `SELECT reader, how, precision, first_at, last_at, reads FROM location_reads
			WHERE subject = $1 AND NOT EXISTS (SELECT 1 FROM blocks WHERE blocker = location_reads.reader AND blocked = $1) ORDER BY first_at`,
	},
	{
		name:   "location_track",
		steps:  []step{{columns: cols("user_id"), do: erase, sql: `DELETE FROM location_track WHERE user_id = $1`}},
		rows:   cols("sealed"),
		hidden: "sealed: the export has it as \"track\", from Track",
	},
	{
		name:   "location_memories",
		steps:  []step{{columns: cols("user_id"), do: erase, sql: `DELETE FROM location_memories WHERE user_id = $1`}},
		rows:   cols("sealed"),
		hidden: "which cells stood for which places: sealed, and of use to nobody else",
	},
	{
		name:   "fences",
		steps:  []step{{columns: cols("created_by"), do: anonymise, sql: `UPDATE fences SET created_by = NULL WHERE created_by = $1`}},
		keep:   map[string][]string{random: cols("id", "group_id"), ofGroup: cols("name", "shape")},
		export: `SELECT group_id, name, shape, dwell_s, created_at FROM fences WHERE created_by = $1 ORDER BY created_at`,
	},
	{
		name:   "fence_states",
		steps:  []step{{columns: cols("user_id", "other_id"), do: erase, sql: `DELETE FROM fence_states WHERE user_id = $1 OR other_id = $1`}},
		keep:   map[string][]string{random: cols("group_id", "fence_id", "crossing")},
		export: `SELECT group_id, fence_id, other_id, inside, at FROM fence_states WHERE user_id = $1 ORDER BY at`,
	},
	{
		name:   "fence_crossings",
		steps:  []step{{columns: cols("user_id", "other_id"), do: erase, sql: `DELETE FROM fence_crossings WHERE user_id = $1 OR other_id = $1`}},
		keep:   map[string][]string{random: cols("id", "group_id", "fence_id"), technics: cols("kind"), ofGroup: cols("name")},
		export: `SELECT group_id, kind, fence_id, name, other_id, at FROM fence_crossings WHERE user_id = $1 ORDER BY at`,
	},
	{
		name:   "fleet_keys",
		steps:  []step{{columns: cols("fleet_id"), do: erase, last: true, sql: `DELETE FROM fleet_keys WHERE fleet_id IN (SELECT id FROM fleets WHERE user_id = $1)`}},
		rows:   cols("name", "secret_hash"),
		keep:   map[string][]string{random: cols("id")},
		export: `SELECT k.fleet_id, k.name, k.created_at, k.revoked_at FROM fleet_keys k JOIN fleets f ON f.id = k.fleet_id WHERE f.user_id = $1 ORDER BY k.created_at`,
	},
	{
		// Its fleets are ended before; the rows stay for nodes that ask for that.
		name: "fleets",
		steps: []step{
			{columns: cols("name"), do: anonymise, sql: `UPDATE fleets SET name = '' WHERE user_id = $1`},
			{columns: cols("user_id"), do: erase, last: true, sql: `DELETE FROM fleets WHERE user_id = $1`},
		},
		keep:   map[string][]string{random: cols("id")},
		export: `SELECT id, name, precision, expires_at, created_at, updated_at, deleted_at FROM fleets WHERE user_id = $1 ORDER BY created_at`,
	},
}
