package httpapi

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
)

// made returns a maker of something of the owner's: the answer's field is what the
// path's parameter, or a word of the body, stands for.
func ownersOwn(word, path, body string) func(*world) map[string]string {
	return func(w *world) map[string]string {
		var b any
		if body != "" {
			b = body
		}
		return map[string]string{word: w.once(word, func() string { return w.ok("POST", path, w.people["owner"].token, b).str(word) })}
	}
}

// groupsOwn is ownersOwn below the group's path.
func groupsOwn(word, path, body string) func(*world) map[string]string {
	return func(w *world) map[string]string {
		return ownersOwn(word, "/groups/"+w.group+path, body)(w)
	}
}

// nobodys are things that don't exist.
func nobodys(words ...string) func(*world) map[string]string {
	return func(*world) map[string]string {
		m := map[string]string{}
		for _, word := range words {
			m[word] = uuid.NewString()
		}
		return m
	}
}

// fresh is another member for each who asks.
func fresh(w *world) map[string]string {
	p := w.guest("")
	w.ok("POST", "/groups/join", p.token, obj{"invite_code": w.invite()})
	return map[string]string{"user_id": p.id, "fresh": p.id}
}

func (w *world) invite() string {
	return w.once("invite", func() string {
		return w.ok("POST", "/groups/"+w.group+"/invite", w.people["owner"].token, nil).str("invite_code")
	})
}

// anAsk is one of the member's to the owner.
func anAsk(w *world) map[string]string {
	return map[string]string{"ask_id": w.once("ask", func() string {
		return w.ok("POST", "/location/asks", w.people["member"].token, obj{"user_id": w.people["owner"].id}).str("ask_id")
	})}
}

// aFriendRequest is one of the other member's to the owner.
func aFriendRequest(w *world) map[string]string {
	w.once("request", func() string {
		w.ok("POST", "/friends/requests", w.people["other"].token, obj{"user_id": w.people["owner"].id})
		return ""
	})
	return map[string]string{"user_id": w.people["other"].id}
}

// aNotification is one of the owner's.
func aNotification(w *world) map[string]string {
	aFriendRequest(w)
	var id string
	require.NoError(w.t, w.db.InTx(w.t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error { // as if it had been delivered
		return tx.QueryRow(ctx, `UPDATE notifications SET shown_at = created_at WHERE user_id = $1 RETURNING id`, w.people["owner"].id).Scan(&id)
	}))
	return map[string]string{"notification_id": id}
}

// aLogin is the owner's.
func aLogin(w *world) map[string]string {
	return map[string]string{"login_id": w.once("login", func() string {
		owner, err := core.ParseUserID(w.people["owner"].id)
		require.NoError(w.t, err)
		id := uuid.NewString()
		require.NoError(w.t, w.db.InTx(w.t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO logins (id, user_id, device_info, created_at) VALUES ($1, $2, '{}', $3)`, id, owner, w.clock())
			return err
		}))
		return id
	})}
}

// aKey is one of a fleet of the owner's.
func aKey(w *world) map[string]string {
	made := ownersOwn("fleet_id", "/fleets", `{"name":"x"}`)(w)
	made["key_id"] = w.once("key", func() string {
		return w.ok("POST", "/fleets/"+made["fleet_id"]+"/keys", w.people["owner"].token, nil).str("key_id")
	})
	return made
}

// anEncounter is one of the owner and the other member.
func anEncounter(w *world) map[string]string {
	return map[string]string{"encounter": w.once("encounter", func() string { return w.met(w.people["owner"], w.people["other"]) })}
}

const (
	aLunch = `{"title":"Lunch","money":{"amount":1000,"currency":"EUR"}}`
	aRent  = `{"title":"Rent","money":{"amount":90000,"currency":"EUR"},"every":"month","starts_on":"2026-03-01"}`
)

// anExpense is a new one of the owner's.
func anExpense(w *world) map[string]string {
	return map[string]string{"expense_id": w.ok("POST", "/groups/"+w.group+"/expenses", w.people["owner"].token, aLunch).str("expense_id")}
}

// aSettlement is a new one of the owner and the other member.
func aSettlement(w *world) map[string]string {
	return map[string]string{"settlement_id": w.ok("POST", "/groups/"+w.group+"/settlements", w.people["owner"].token,
		obj{"to": obj{"user_id": w.people["other"].id}, "money": obj{"amount": 100, "currency": "EUR"}}).str("settlement_id")}
}

// aRecurring is a new one of the owner's.
func aRecurring(w *world) map[string]string {
	return map[string]string{"recurring_id": w.ok("POST", "/groups/"+w.group+"/recurring-expenses", w.people["owner"].token, aRent).str("recurring_id")}
}

// theRoom is the group's conversation.
func theRoom(w *world) map[string]string { return map[string]string{"room": "group:" + w.group} }

// aMessage is a new one of the owner's there.
func aMessage(w *world) map[string]string {
	made := theRoom(w)
	m := w.ok("POST", "/conversations/"+made["room"]+"/messages", w.people["owner"].token, obj{"client_id": uuid.NewString(), "body": "hello"})
	made["number"], made["emoji"] = fmt.Sprint(m.body["number"]), "%F0%9F%91%8D"
	return made
}

// public makes the group one that everybody may join.
func public(group *world) map[string]string {
	group.once("public", func() string {
		group.ok("PUT", "/groups/"+group.group, group.people["owner"].token, obj{"settings": obj{"visibility": "public"}})
		return ""
	})
	return nil
}

const (
	aGrant   = `{"audience":{"kind":"discoverable"},"precision":"r8"}`
	aZone    = `{"center":{"lat":45,"lng":13},"radius":300,"precision":"r8"}`
	aLink    = `{"precision":"r8"}`
	aFence   = `{"name":"x","shape":{"circle":{"center":{"lat":45,"lng":13},"radius":300}}}`
	aHook    = `{"url":"https://example.org/hook"}`
	aPush    = `{"endpoint":"https://push.example.org/x","keys":{"p256dh":"BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4","auth":"BTBZMqHH6r4Tts7J_aSIgg"}}`
	aSignUp  = `{"username":"{new}","email":"{new}@example.org","password":"correct horse"}`
	anUpdate = `{"coordinates":{"lat":45,"lng":13}}`
)

// all is the same answer for everybody.
func all(code string) string { return strings.TrimSpace(strings.Repeat(code+" ", len(signedIn))) }

// own is what only its owner, who is the group's, can see.
func own(code string) string { return strings.Repeat(code+" ", len(signedIn)-1) + "ok" }

var rights = map[string]right{
	"get-matching-profile": {who: everybody},
	"put-matching-profile": {who: everybody, body: `{"open":false}`},
	"list-matches":         {who: all("matching_closed")},
	"list-talk-requests":   {who: everybody},
	"request-talk":         {who: "matching_closed matching_closed matching_closed matching_closed bad_request", body: `{"user_id":"{owner}"}`},
	"accept-talk":          {who: own("request_not_found"), make: aTalkRequest},
	"decline-talk":         {who: own("request_not_found"), make: aTalkRequest},
	"cancel-talk-request":  {who: own("request_not_found"), make: anOwnTalkRequest},
	"end-talk":             {who: own("talk_not_found"), make: aTalk},

	"keys":                       {who: everybody, public: true},
	"sign-in-ways":               {who: everybody, public: true},
	"register":                   {who: everybody, body: aSignUp, public: true},
	"login":                      {who: all("invalid_credentials"), body: `{"email":"nobody@example.org","password":"correct horse"}`, public: true},
	"guest":                      {who: everybody, body: `{}`, public: true},
	"refresh":                    {who: all("refresh_invalid"), body: `{"refresh_token":"x"}`, public: true},
	"logout":                     {who: all("unauthenticated"), public: true},
	"verify-email":               {who: all("token_invalid"), body: `{"token":"x"}`, public: true},
	"forgot-password":            {who: everybody, body: `{"email":"nobody@example.org"}`, public: true},
	"reset-password":             {who: all("token_invalid"), body: `{"token":"x","password":"correct horse"}`, public: true},
	"begin-google":               {who: all("google_off"), public: true},
	"google":                     {who: all("google_off"), body: `{"code":"x","state":"x"}`, public: true},
	"edge":                       {who: everybody, public: true},
	"edge-probe":                 {who: everybody, public: true},
	"demo":                       {who: all("no_demo"), public: true},
	"open-link":                  {who: all("link_not_found"), make: nobodys("link"), public: true},
	"fleet-token":                {who: all("key_invalid"), body: `{"key":"x"}`, public: true},
	"upgrade":                    {who: everybody, body: `{"username":"u{new}","email":"{new}@example.org","password":"correct horse"}`},
	"resend-verification":        {who: all("guest")},
	"change-email":               {who: all("guest"), body: `{"email":"{new}@example.org"}`},
	"change-password":            {who: all("guest"), body: `{"new":"correct horse"}`},
	"get-google-link":            {who: everybody},
	"begin-google-link":          {who: all("google_off"), body: `{}`},
	"put-google-link":            {who: all("google_off"), body: `{"code":"x","state":"x"}`},
	"delete-google-link":         {who: everybody},
	"list-logins":                {who: everybody},
	"end-login":                  {who: own("login_not_found"), make: aLogin},
	"end-other-logins":           {who: everybody},
	"list-security-events":       {who: everybody},
	"get-profile":                {who: everybody},
	"put-profile":                {who: everybody, body: `{"settings":{}}`},
	"list-groups":                {who: everybody},
	"create-group":               {who: everybody, body: `{"name":"x"}`},
	"get-group":                  {who: members},
	"put-group":                  {who: admins, body: `{"name":"y"}`},
	"delete-group":               {who: ownerOnly},
	"leave-group":                {who: "not_member ok ok ok owner_must_transfer"},
	"transfer-group":             {who: ownerOnly, body: `{"user_id":"{other}"}`},
	"list-directory":             {who: everybody},
	"join-public-group":          {who: everybody, make: public},
	"list-bans":                  {who: admins},
	"ban":                        {who: admins, body: `{"user_id":"{fresh}"}`, make: fresh},
	"unban":                      {who: admins},
	"list-members":               {who: members},
	"remove-member":              {who: admins, make: fresh},
	"put-member":                 {who: ownerOnly, body: `{"role":"admin"}`, make: fresh},
	"create-invite":              {who: members},
	"join-group":                 {who: everybody, body: `{"invite_code":"{code}"}`, make: func(w *world) map[string]string { return map[string]string{"code": w.invite()} }},
	"list-invites":               {who: members},
	"revoke-invite":              {who: admins, make: func(w *world) map[string]string { return map[string]string{"invite_code": w.invite()} }},
	"list-conversations":         {who: everybody},
	"open-conversation":          {who: "user_not_found user_not_found ok ok bad_request", body: `{"user_id":"{owner}"}`},
	"get-conversation":           {who: members, make: theRoom},
	"leave-conversation":         {who: "not_member ok ok ok owner_must_transfer", make: theRoom},
	"mute-conversation":          {who: members, body: `{}`, make: theRoom},
	"put-receipts":               {who: members, body: `{"delivered":1,"read":1}`, make: theRoom},
	"get-receipts":               {who: members, make: theRoom},
	"get-conversation-settings":  {who: everybody},
	"put-conversation-settings":  {who: everybody, body: `{"receipts":"nobody"}`},
	"list-sessions":              {who: everybody},
	"start-session":              {who: members, body: `{"group_id":"{group}","type":"audio"}`},
	"get-session":                {who: "no_call ok ok ok ok", make: aCall},
	"change-session":             {who: "no_call forbidden forbidden ok ok", body: `{"locked":true}`, make: aCall},
	"end-session":                {who: "no_call forbidden forbidden ok ok", make: aCall},
	"turn":                       {who: everybody},
	"list-messages":              {who: members},
	"send-message":               {who: members, body: `{"client_id":"{new}","body":"x"}`},
	"list-conversation-messages": {who: members, make: theRoom},
	"send-conversation-message":  {who: members, body: `{"client_id":"{new}","body":"x"}`, make: theRoom},
	"get-message":                {who: members, make: aMessage},
	"edit-message":               {who: "not_member not_your_message not_your_message not_your_message ok", body: `{"body":"x"}`, make: aMessage},
	"delete-message":             {who: "not_member not_your_message not_your_message ok ok", make: aMessage},
	"react":                      {who: members, make: aMessage},
	"unreact":                    {who: members, make: aMessage},
	"pin-message":                {who: members, make: aMessage},
	"unpin-message":              {who: members, make: aMessage},
	"list-edits":                 {who: members, make: aMessage},
	"list-pins":                  {who: members, make: theRoom},
	"search-messages":            {who: everybody, query: "?q=hello"},
	"put-picture":                {who: everybody, body: string(picture(8))},
	"get-picture":                {who: all("object_not_found"), make: nobodys("picture_id"), public: true},
	"create-upload":              {who: all("bad_tus_version"), body: "x"},
	"get-upload":                 {who: own("upload_not_found"), make: anUpload},
	"append-upload":              {who: all("bad_tus_version"), make: anUpload, body: "x"},
	"delete-upload":              {who: all("bad_tus_version"), make: anUpload},
	"get-attachment":             {who: "not_member file_not_found file_not_found file_not_found file_not_found", make: aFile},
	"get-file":                   {who: all("file_not_found"), make: nobodys("file_token"), public: true},
	"get-user":                   {who: "ok user_not_found ok ok ok"},
	"rate":                       {who: own("encounter_not_found"), body: `{"encounter_id":"{encounter}","user_id":"{other}","stars":4}`, make: anEncounter},
	"list-plans":                 {who: everybody},
	"get-subscription":           {who: everybody},
	"choose-plan":                {who: everybody, make: subscribed, body: `{"plan_id":"plus","payment_method":"pm_card_visa"}`},
	"cancel-subscription":        {who: everybody, make: subscribed},
	"resume-subscription":        {who: everybody, make: subscribed},
	"hear-payment-gateway":       {who: all("bad_signature"), body: `{}`, make: func(*world) map[string]string { return map[string]string{"gateway": "stripe"} }, public: true},
	"pay-settlement":             {who: "not_member role_required role_required role_required ok", make: aCardSettlement, body: `{"payment_method":"pm_card_visa"}`},
	"list-payments":              {who: everybody},
	"get-payment":                {who: own("payment_not_found"), make: aPayment},
	"cancel-payment":             {who: own("payment_not_found"), make: aPayment},
	"refund-payment":             {who: all("payment_not_found"), make: aPayment, body: `{}`},
	"list-pending-ratings":       {who: everybody},
	"list-user-ratings":          {who: "ok user_not_found ok ok ok"},
	"create-expense":             {who: members, body: aLunch},
	"preview-expense":            {who: members, body: aLunch},
	"list-expenses":              {who: members},
	"get-expense":                {who: members, make: anExpense},
	"update-expense":             {who: admins, make: anExpense, body: `{"version":1,` + aLunch[1:]},
	"delete-expense":             {who: admins, make: anExpense},
	"get-expense-history":        {who: members, make: anExpense},
	"export-expenses":            {who: members},
	"get-balances":               {who: members},
	"explain-debt":               {who: members, query: "?from={owner}&to={other}&currency=EUR", make: anExpense},
	"settle":                     {who: "not_member role_required role_required ok ok", body: `{"from":{"user_id":"{other}"},"to":{"user_id":"{owner}"},"money":{"amount":100,"currency":"EUR"}}`},
	"convert-debt":               {who: "not_member role_required role_required ok ok", body: `{"from":{"user_id":"{other}"},"to":{"user_id":"{owner}"},"money":{"amount":100,"currency":"EUR"},"into":"JPY","rate":"160"}`},
	"list-settlements":           {who: members},
	"get-settlement":             {who: members, make: aSettlement},
	"undo-settlement":            {who: admins, make: aSettlement},
	"list-recurring-expenses":    {who: members},
	"create-recurring-expense":   {who: members, body: aRent},
	"update-recurring-expense":   {who: admins, make: aRecurring, body: `{"version":1,` + aRent[1:]},
	"delete-recurring-expense":   {who: admins, make: aRecurring},
	"report":                     {who: "subject_not_found ok ok ok ok", body: `{"room":"group:{group}","reason":"spam"}`},
	"export-profile":             {who: everybody},
	"get-export":                 {who: all("export_not_found")},
	"download-export":            {who: all("export_not_found"), make: nobodys("export_token"), public: true},
	"delete-profile":             {who: everybody},
	"get-presence-settings":      {who: everybody},
	"patch-presence-settings":    {who: everybody, body: `{"invisible":true}`},
	"get-user-presence":          {who: "user_not_found ok ok ok ok"},
	"list-presence":              {who: members},
	"list-blocks":                {who: everybody},
	"block":                      {who: everybody, body: `{"user_id":"{other}"}`},
	"unblock":                    {who: everybody},
	"list-friends":               {who: everybody},
	"list-friend-requests":       {who: everybody},
	"request-friend":             {who: "ok user_not_found ok ok bad_request", body: `{"user_id":"{owner}"}`},
	"accept-friend":              {who: own("request_not_found"), make: aFriendRequest},
	"decline-friend":             {who: own("request_not_found"), make: aFriendRequest},
	"cancel-friend":              {who: everybody, make: aFriendRequest},
	"unfriend":                   {who: everybody},
	"get-discoverable":           {who: everybody},
	"put-discoverable":           {who: everybody, body: `{"discoverable":true}`},
	"search-people":              {who: everybody, query: "?q=ana"},
	"update-location":            {who: everybody, body: anUpdate},
	"withdraw-location":          {who: everybody},
	"group-locations":            {who: members},
	"group-proximity":            {who: members},
	"nearby":                     {who: all("no_position")},
	"sharing-people":             {who: everybody},
	"create-ask":                 {who: "user_not_found user_not_found ok ok user_not_found", body: `{"user_id":"{owner}"}`},
	"list-asks":                  {who: everybody},
	"accept-ask":                 {who: own("ask_not_found"), body: `{"precision":"r8","expires_in":3600}`, make: anAsk},
	"decline-ask":                {who: own("ask_not_found"), make: anAsk},
	"withdraw-ask":               {who: "ask_not_found ask_not_found ok ask_not_found ask_not_found", make: anAsk},
	"create-link":                {who: everybody, body: aLink},
	"list-links":                 {who: everybody},
	"revoke-link": {who: own("link_not_found"), make: func(w *world) map[string]string {
		return map[string]string{"link": ownersOwn("link_id", "/location/links", aLink)(w)["link_id"]}
	}},
	"list-fences":               {who: members},
	"create-fence":              {who: members, body: aFence},
	"change-fence":              {who: admins, body: `{"name":"y"}`, make: groupsOwn("fence_id", "/fences", aFence)},
	"delete-fence":              {who: "not_member role_required role_required ok fence_not_found", make: groupsOwn("fence_id", "/fences", aFence)},
	"put-meeting":               {who: admins, body: `{"meet_distance":100}`},
	"list-crossings":            {who: members},
	"create-grant":              {who: "user_not_found user_not_found ok ok user_not_found", body: `{"audience":{"kind":"person","id":"{owner}"},"precision":"r8"}`},
	"list-grants":               {who: everybody},
	"change-grant":              {who: own("grant_not_found"), body: `{"precision":"r7"}`, make: ownersOwn("grant_id", "/location/grants", aGrant)},
	"end-grant":                 {who: own("grant_not_found"), make: ownersOwn("grant_id", "/location/grants", aGrant)},
	"get-sharing":               {who: everybody},
	"put-sharing":               {who: everybody, body: `{"paused":false}`},
	"create-zone":               {who: everybody, body: aZone},
	"list-zones":                {who: everybody},
	"delete-zone":               {who: own("zone_not_found"), make: ownersOwn("zone_id", "/location/zones", aZone)},
	"list-receipts":             {who: everybody},
	"get-track":                 {who: everybody},
	"put-track":                 {who: everybody, body: `{"enabled":false}`},
	"delete-track":              {who: everybody},
	"list-track":                {who: everybody},
	"export-track":              {who: everybody},
	"list-notifications":        {who: everybody},
	"count-notifications":       {who: everybody},
	"read-notifications":        {who: everybody, body: `{"until":"2026-03-01T12:00:00Z"}`},
	"read-notification":         {who: own("notification_not_found"), make: aNotification},
	"list-deliveries":           {who: own("notification_not_found"), make: aNotification},
	"get-notification-settings": {who: everybody},
	"put-notification-settings": {who: everybody, body: `{}`},
	"get-push-key":              {who: everybody},
	"subscribe-push":            {who: everybody, body: aPush},
	"unsubscribe-push":          {who: own("subscription_not_found"), make: ownersOwn("subscription_id", "/notifications/push", aPush)},
	"create-webhook":            {who: everybody, body: aHook},
	"list-webhooks":             {who: everybody},
	"delete-webhook":            {who: own("webhook_not_found"), make: ownersOwn("webhook_id", "/webhooks", aHook)},
	"create-group-webhook":      {who: admins, body: aHook},
	"list-group-webhooks":       {who: admins},
	"delete-group-webhook":      {who: "not_member role_required role_required ok webhook_not_found", make: groupsOwn("webhook_id", "/webhooks", aHook)},
	"create-fleet":              {who: everybody, body: `{"name":"x"}`},
	"list-fleets":               {who: everybody},
	"get-fleet":                 {who: own("fleet_not_found"), make: ownersOwn("fleet_id", "/fleets", `{"name":"x"}`)},
	"change-fleet":              {who: own("fleet_not_found"), body: `{"name":"y"}`, make: ownersOwn("fleet_id", "/fleets", `{"name":"x"}`)},
	"delete-fleet":              {who: own("fleet_not_found"), make: ownersOwn("fleet_id", "/fleets", `{"name":"x"}`)},
	"create-fleet-key":          {who: own("fleet_not_found"), make: ownersOwn("fleet_id", "/fleets", `{"name":"x"}`)},
	"list-fleet-keys":           {who: own("fleet_not_found"), make: ownersOwn("fleet_id", "/fleets", `{"name":"x"}`)},
	"revoke-fleet-key":          {who: own("fleet_not_found"), make: aKey},
}

// anUpload is one of the owner's.
func anUpload(w *world) map[string]string {
	return map[string]string{"upload_id": w.once("upload", func() string {
		a := w.ok("POST", "/uploads", w.people["owner"].token, nil, "Tus-Resumable", tusVersion, "Upload-Length", "10")
		return a.Header.Get("Location")[len(uploadsPath)+1:]
	})}
}

// aFile is none of the group's.
func aFile(w *world) map[string]string {
	return map[string]string{"room": "group:" + w.group, "attachment_id": uuid.NewString()}
}
