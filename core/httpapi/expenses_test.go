package httpapi

import (
	"context"
	"encoding/csv"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/attachments"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/expenses"
	"github.com/mustermesh/muster/core/ledger"
)

func withExpenses(cfg *Config) {
	cfg.Expenses = expenses.New(cfg.DB, ledger.New(cfg.DB, ledger.Config{Now: cfg.Now}), expenses.Config{Now: cfg.Now, Notify: cfg.Notifications, Receipts: receipts{cfg.Attachments}})
}

// receipts are attachments as core/expenses asks for them.
type receipts struct{ *attachments.Store }

func (r receipts) Attach(ctx context.Context, tx pgx.Tx, user core.UserID, room string, ids []uuid.UUID) error {
	_, err := r.Store.Attach(ctx, tx, user, room, ids)
	return err
}

func euros(amount any) obj { return obj{"amount": amount, "currency": "EUR"} }

// trip is a group of three.
type trip struct {
	*bundle
	ana, ben, eve person
	path          string
}

func newTrip(t *testing.T, change ...func(*Config)) *trip {
	b := setup(t, change...)
	x := &trip{bundle: b, ana: b.guest("ana"), ben: b.guest("ben"), eve: b.guest("eve")}
	x.path = "/groups/" + b.group(x.ana, x.ben, x.eve)
	return x
}

func TestExpensesOverHTTP(t *testing.T) {
	b := newTrip(t)
	draft := obj{"title": "Dinner", "money": euros(1000), "category": "food", "spent_on": "2026-02-27",
		"payers": []obj{{"user_id": b.ben.id, "amount": 400}, {"user_id": b.ana.id, "amount": 600}},
		"split":  obj{"mode": "percent", "parts": []obj{{"user_id": b.ana.id, "percent": "50"}, {"user_id": b.eve.id, "percent": "50.00"}}}}
	shares := b.ok("POST", b.path+"/expenses/preview", b.ana.token, draft).body["shares"]
	e := b.ok("POST", b.path+"/expenses", b.ana.token, draft)
	require.Equal(t, http.StatusCreated, e.StatusCode)
	require.Equal(t, `"1"`, e.Header.Get("ETag"))
	require.Equal(t, shares, e.body["shares"])
	require.Equal(t, draft["spent_on"], e.str("spent_on"))
	path := b.path + "/expenses/" + e.str("expense_id")
	require.Equal(t, e.body, b.ok("GET", path, b.eve.token, nil).body)
	require.Equal(t, []any{e.body}, b.ok("GET", b.path+"/expenses?category=food&member="+b.eve.id+"&from=2026-02-27&to=2026-02-27", b.ben.token, nil).body["expenses"])
	require.Empty(t, b.ok("GET", b.path+"/expenses?from=2026-02-28", b.ben.token, nil).body["expenses"])

	// Who edits an old version sees both sides.
	draft["version"], draft["title"] = 1, "Supper"
	b.ok("PUT", path, b.ana.token, draft)
	draft["title"] = "Tea"
	r := b.refused(http.StatusConflict, "expense_changed", "PUT", path, b.ben.token, draft)
	conflict := r.body["conflict"].(obj)
	require.Equal(t, "Supper", conflict["present"].(obj)["title"])
	require.EqualValues(t, 2, conflict["present"].(obj)["version"])
	require.Equal(t, "Tea", conflict["sent"].(obj)["title"])
	b.refused(http.StatusConflict, "expense_changed", "DELETE", path, b.ben.token, nil, "If-Match", `"1"`)
	b.refused(http.StatusBadRequest, "bad_request", "DELETE", path, b.ben.token, nil, "If-Match", `W/"x"`)
	delete(draft, "version")
	changed := b.request("PUT", path, b.ben.token, draft, "If-Match", `"2"`)
	require.Equal(t, http.StatusOK, changed.StatusCode, string(changed.raw))
	versions := b.ok("GET", path+"/history", b.eve.token, nil).body["versions"].([]any)
	require.Len(t, versions, 3)

	// A page says where the next one is.
	for i := range 3 {
		b.ok("POST", b.path+"/expenses", b.ben.token, obj{"title": fmt.Sprint(i), "money": euros(300), "category": "fuel"})
	}
	first := b.ok("GET", b.path+"/expenses?limit=2&category=fuel", b.ana.token, nil)
	link, _, _ := strings.Cut(strings.TrimPrefix(first.Header.Get("Link"), "<"+prefix), ">")
	require.Contains(t, link, "category=fuel")
	rest := b.ok("GET", link, b.ana.token, nil)
	require.Len(t, rest.body["expenses"], 1)
	require.Empty(t, rest.Header.Get("Link"))

	b.ok("DELETE", path, b.ben.token, nil)
	require.Equal(t, true, b.ok("GET", path, b.eve.token, nil).body["deleted"])
	b.refused(http.StatusNotFound, "expense_not_found", "GET", b.path+"/expenses/"+uuid.NewString(), b.eve.token, nil)
	b.refused(http.StatusNotFound, "expense_not_found", "GET", b.path+"/expenses/7", b.eve.token, nil)
}

// A receipt is read by the group's members, as long as the expense has it.
func TestReceipts(t *testing.T) {
	b := newTrip(t)
	upload := func() string {
		file := picture(8)
		at := b.begin(b.ana, len(file), "receipt.jpg")
		require.Equal(t, http.StatusNoContent, b.patch(b.ana, at, 0, file).StatusCode)
		return at[strings.LastIndex(at, "/")+1:]
	}
	one, two := upload(), upload()
	draft := obj{"title": "Dinner", "money": euros(900), "receipts": []string{one}}
	b.refused(400, "attachment_not_found", "POST", b.path+"/expenses", b.ben.token, draft) // another's
	e := b.ok("POST", b.path+"/expenses", b.ana.token, draft)
	room := "/conversations/group:" + strings.TrimPrefix(b.path, "/groups/") + "/attachments/"
	require.NotEmpty(t, b.ok("GET", room+one, b.ben.token, nil).str("url"))
	b.refused(404, "not_member", "GET", room+one, b.guest("kim").token, nil)
	draft["version"], draft["receipts"] = 1, []string{two}
	path := b.path + "/expenses/" + e.str("expense_id")
	require.Equal(t, []any{two}, b.ok("PUT", path, b.ana.token, draft).body["receipts"])
	b.refused(404, "file_not_found", "GET", room+one, b.ben.token, nil)
	b.ok("GET", room+two, b.ben.token, nil)
	b.ok("DELETE", path, b.ana.token, nil)
	b.refused(404, "file_not_found", "GET", room+two, b.ben.token, nil)
}

// A request that is sent again is carried out once.
func TestARepeatedExpenseIsOne(t *testing.T) {
	b := newTrip(t)
	draft := obj{"title": "Dinner", "money": euros(900)}
	first := b.request("POST", b.path+"/expenses", b.ana.token, draft, keyHeader, "a-key")
	require.Equal(t, http.StatusCreated, first.StatusCode)
	again := b.request("POST", b.path+"/expenses", b.ana.token, draft, keyHeader, "a-key")
	require.Equal(t, first.raw, again.raw)
	require.Len(t, b.ok("GET", b.path+"/expenses", b.ana.token, nil).body["expenses"], 1)
}

// Every mode, in currencies of every exponent, adds up; what doesn't is refused
// clearly, and nothing is written.
func TestSplitsAndRefusals(t *testing.T) {
	b := newTrip(t)
	for _, currency := range []string{"JPY", "EUR", "KWD", "CLF"} {
		for mode, parts := range map[string][]obj{
			"equal":   {{}, {}, {}},
			"exact":   {{"amount": 1}, {"amount": 0}, {"amount": 99}},
			"percent": {{"percent": "33.33"}, {"percent": "33.33"}, {"percent": "33.34"}},
			"shares":  {{"shares": 2}, {"shares": 1}, {"shares": 0}},
			"weights": {{"weight": "2.5"}, {"weight": "1"}, {"weight": "0.0001"}},
		} {
			for i, p := range []person{b.ana, b.ben, b.eve} {
				parts[i]["user_id"] = p.id
			}
			e := b.ok("POST", b.path+"/expenses", b.ana.token, obj{"title": "x", "money": obj{"amount": 100, "currency": currency}, "split": obj{"mode": mode, "parts": parts}})
			sum := 0.0
			for _, s := range e.body["shares"].([]any) {
				sum += s.(obj)["amount"].(float64)
			}
			require.EqualValues(t, 100, sum)
			require.Equal(t, mode, e.body["split"].(obj)["mode"])
			for i, p := range e.body["split"].(obj)["parts"].([]any) { // as it was sent
				delete(p.(obj), "user_id")
				require.LessOrEqual(t, len(p.(obj)), 1, "%d", i)
			}
		}
	}
	count := len(b.ok("GET", b.path+"/expenses?limit=200", b.ana.token, nil).body["expenses"].([]any))
	balances := b.ok("GET", b.path+"/balances", b.ana.token, nil).body
	part := func(with obj) obj {
		with["user_id"] = b.ben.id
		return with
	}
	split := func(mode string, parts ...obj) obj { return obj{"mode": mode, "parts": parts} }
	for name, c := range map[string]struct {
		change obj
		code   string
	}{
		"percent below 100":   {obj{"split": split("percent", part(obj{"percent": "99.99"}))}, "bad_split"},
		"percent above 100":   {obj{"split": split("percent", part(obj{"percent": "100.01"}))}, "bad_split"},
		"negative percent":    {obj{"split": split("percent", part(obj{"percent": "-1"}))}, "bad_split"},
		"exact below":         {obj{"split": split("exact", part(obj{"amount": 99}))}, "bad_split"},
		"negative exact":      {obj{"split": split("exact", part(obj{"amount": -100}))}, "bad_split"},
		"exact near 2^63":     {obj{"split": split("exact", part(obj{"amount": 9223372036854775807}))}, "bad_split"},
		"no weight at all":    {obj{"split": split("weights", part(obj{"weight": "0"}))}, "bad_split"},
		"another mode's":      {obj{"split": split("shares", part(obj{"shares": 1, "percent": "100"}))}, "bad_split"},
		"unknown mode":        {obj{"split": split("halves", part(obj{}))}, "bad_split"},
		"a member twice":      {obj{"split": split("equal", part(obj{}), part(obj{}))}, "bad_split"},
		"no member":           {obj{"split": split("equal", obj{"user_id": uuid.NewString()})}, "member_not_found"},
		"negative amount":     {obj{"money": euros(-1)}, "amount_out_of_range"},
		"amount near 2^63":    {obj{"money": euros(9223372036854775807)}, "bad_request"},
		"amount above 2^63":   {obj{"money": `9223372036854775808`}, "bad_request"},
		"a unit beyond":       {obj{"money": euros(core.MaxAmount + 1)}, "bad_request"},
		"fraction":            {obj{"money": euros(1.5)}, "bad_request"},
		"unknown currency":    {obj{"money": obj{"amount": 1, "currency": "XYZ"}}, "unknown_currency"},
		"lower case currency": {obj{"money": obj{"amount": 1, "currency": "eur"}}, "unknown_currency"},
		"no money":            {obj{"money": nil}, "bad_request"},
		"paid too little":     {obj{"payers": []obj{part(obj{"amount": 99})}}, "bad_payers"},
		"paid by both":        {obj{"payers": []obj{part(obj{"amount": 100, "wallet": true})}}, "bad_request"},
		"no title":            {obj{"title": " "}, "bad_expense"},
		"no day":              {obj{"spent_on": "yesterday"}, "bad_request"},
		"no such receipt":     {obj{"receipts": []string{uuid.NewString()}}, "attachment_not_found"},
		"no receipt at all":   {obj{"receipts": []string{"x"}}, "bad_request"},
	} {
		draft := obj{"title": "x", "money": euros(100)}
		for k, v := range c.change {
			draft[k] = v
		}
		a := b.request("POST", b.path+"/expenses", b.ana.token, draft)
		require.Less(t, a.StatusCode, 500, name)
		require.Equal(t, c.code, a.body["code"], "%s: %s", name, a.raw)
	}
	require.Len(t, b.ok("GET", b.path+"/expenses?limit=200", b.ana.token, nil).body["expenses"], count)
	require.Equal(t, balances, b.ok("GET", b.path+"/balances", b.ana.token, nil).body)
}

func TestBalancesSettlementsAndWhy(t *testing.T) {
	b := newTrip(t)
	one := func(by, of person) {
		b.ok("POST", b.path+"/expenses", by.token, obj{"title": "Taxi", "money": euros(1000), "split": obj{"parts": []obj{{"user_id": of.id}}}})
	}
	one(b.ana, b.ben)
	one(b.ben, b.eve)
	balances := b.ok("GET", b.path+"/balances", b.eve.token, nil).body
	require.Equal(t, true, balances["simplified"])
	transfers := balances["transfers"].([]any)
	require.Len(t, transfers, 1)
	require.Equal(t, b.eve.id, transfers[0].(obj)["from"].(obj)["user_id"])
	require.Equal(t, "eve", transfers[0].(obj)["from"].(obj)["username"])
	require.Equal(t, obj{"amount": 1000.0, "currency": "EUR"}, transfers[0].(obj)["money"])
	require.Equal(t, []any{obj{"currency": "EUR", "spent": 2000.0, "kitty": 0.0}}, balances["wallets"])

	why := b.ok("GET", b.path+"/debts/explain?currency=EUR&from="+b.eve.id+"&to="+b.ana.id, b.eve.token, nil).body
	require.Equal(t, obj{"amount": 1000.0, "currency": "EUR"}, why["total"])
	require.Equal(t, obj{"amount": 0.0, "currency": "EUR"}, why["direct"])
	require.Empty(t, why["lines"])
	circles := why["circles"].([]any)
	require.Len(t, circles, 1)
	require.Len(t, circles[0].(obj)["people"], 3)
	require.Equal(t, why["total"], circles[0].(obj)["money"])

	st := b.ok("POST", b.path+"/settlements", b.eve.token, obj{"to": obj{"user_id": b.ana.id}, "money": euros(400), "method": "transfer"})
	require.Equal(t, "recorded", st.str("status"))
	why = b.ok("GET", b.path+"/debts/explain?currency=EUR&from="+b.eve.id+"&to="+b.ana.id, b.eve.token, nil).body
	require.Equal(t, obj{"amount": 600.0, "currency": "EUR"}, why["total"])
	lines := why["lines"].([]any)
	require.Len(t, lines, 1)
	require.Equal(t, "settlement", lines[0].(obj)["kind"])
	require.Equal(t, st.str("settlement_id"), lines[0].(obj)["ref"])
	require.Equal(t, obj{"amount": -400.0, "currency": "EUR"}, lines[0].(obj)["money"])
	undone := b.ok("DELETE", b.path+"/settlements/"+st.str("settlement_id"), b.ana.token, nil)
	require.Equal(t, "undone", undone.str("status"))
	require.Equal(t, transfers, b.ok("GET", b.path+"/balances", b.ben.token, nil).body["transfers"])

	c := b.ok("POST", b.path+"/conversions", b.eve.token, obj{"to": obj{"user_id": b.ben.id}, "money": euros(1000), "into": "JPY", "rate": "160.5"})
	require.Equal(t, obj{"amount": 1605.0, "currency": "JPY"}, c.body["into"])
	require.Len(t, b.ok("GET", b.path+"/settlements", b.ben.token, nil).body["settlements"], 2)
	b.refused(400, "unknown_currency", "POST", b.path+"/conversions", b.eve.token, obj{"to": obj{"user_id": b.ben.id}, "money": euros(1000), "into": "JPX", "rate": "1"})
	b.refused(400, "bad_settlement", "POST", b.path+"/settlements", b.eve.token, obj{"to": obj{"user_id": b.eve.id}, "money": euros(1)})
	b.refused(400, "bad_request", "GET", b.path+"/debts/explain?currency=EUR&from="+b.eve.id+"&to=them", b.eve.token, nil)
	b.refused(400, "unknown_currency", "GET", b.path+"/debts/explain?currency=EUX&from="+b.eve.id+"&to=wallet", b.eve.token, nil)

	// Into the kitty, and out of it.
	b.ok("POST", b.path+"/settlements", b.ben.token, obj{"to": obj{"wallet": true}, "money": euros(5000)})
	b.ok("POST", b.path+"/expenses", b.ben.token, obj{"title": "Tent", "money": euros(3000), "payers": []obj{{"wallet": true, "amount": 3000}}})
	wallets := b.ok("GET", b.path+"/balances", b.ben.token, nil).body["wallets"].([]any)
	require.Equal(t, obj{"currency": "EUR", "spent": 5000.0, "kitty": 2000.0}, wallets[0])

	table := b.ok("GET", b.path+"/expenses.csv", b.ben.token, nil)
	require.Contains(t, table.Header.Get("Content-Type"), "text/csv")
	rows, err := csv.NewReader(strings.NewReader(string(table.raw))).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 1+3+1+2)

	// The group's own setting.
	b.ok("PUT", b.path, b.ana.token, obj{"settings": obj{"simplify_debts": false}})
	require.Equal(t, false, b.ok("GET", b.path+"/balances", b.eve.token, nil).body["simplified"])
}

// Those whose debts it changed are notified, through the real notifier.
func TestExpensesAreNotified(t *testing.T) {
	var store *expenses.Store
	b := newTrip(t, func(c *Config) { store = c.Expenses })
	b.ok("POST", b.path+"/expenses", b.ana.token, obj{"title": "Dinner", "money": euros(900)})
	b.ok("POST", b.path+"/expenses", b.ana.token, obj{"title": "Taxi", "money": euros(900)})
	b.ok("POST", b.path+"/settlements", b.ben.token, obj{"to": obj{"user_id": b.ana.id}, "money": euros(100)})
	b.advance(time.Minute)
	require.NoError(t, store.Notices(t.Context()))
	require.NoError(t, store.Notices(t.Context()))
	require.NoError(t, b.db.Read(t.Context(), func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, `SELECT kind || ' ' || user_id::TEXT || ' ' || coalesce(data->>'count', '') FROM notifications WHERE kind IN ('expense', 'settlement')`)
		require.NoError(t, err)
		list, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.ElementsMatch(t, []string{"expense " + b.ben.id + " 2", "expense " + b.eve.id + " 2", "settlement " + b.ana.id + " "}, list)
		return err
	}))
}

// A group that is deleted takes its expenses along; its book stays as a proof.
func TestExpensesOfADeletedGroup(t *testing.T) {
	b := newTrip(t)
	e := b.ok("POST", b.path+"/expenses", b.ana.token, obj{"title": "Dinner", "money": euros(900)})
	b.ok("PUT", b.path+"/expenses/"+e.str("expense_id"), b.ana.token, obj{"version": 1, "title": "Supper", "money": euros(800)})
	b.ok("POST", b.path+"/settlements", b.ben.token, obj{"to": obj{"user_id": b.ana.id}, "money": euros(100)})
	b.ok("POST", b.path+"/recurring-expenses", b.ana.token, aRent)
	b.ok("DELETE", b.path, b.ana.token, nil)
	b.refused(404, "not_member", "GET", b.path+"/balances", b.ana.token, nil)
	require.NoError(t, b.db.Read(t.Context(), func(ctx context.Context, q db.Querier) error {
		for _, table := range []string{"expenses", "expense_versions", "expense_wallets", "settlements", "recurring_expenses"} {
			var n int
			require.NoError(t, q.QueryRow(ctx, `SELECT count(*) FROM `+table).Scan(&n))
			require.Zero(t, n, table)
		}
		return nil
	}))
}

func TestRecurringExpensesOverHTTP(t *testing.T) {
	b := newTrip(t)
	draft := obj{"title": "Rent", "money": euros(90000), "every": "month", "starts_on": "2026-03-31", "time_zone": "Europe/Berlin"}
	r := b.ok("POST", b.path+"/recurring-expenses", b.ana.token, draft)
	require.Equal(t, "2026-03-31", r.str("next_on"))
	path := b.path + "/recurring-expenses/" + r.str("recurring_id")
	draft["version"], draft["every"] = 1, "week"
	require.EqualValues(t, 2, b.ok("PUT", path, b.ana.token, draft).body["version"])
	b.refused(409, "recurring_expense_changed", "PUT", path, b.ana.token, draft)
	require.Len(t, b.ok("GET", b.path+"/recurring-expenses", b.eve.token, nil).body["recurring_expenses"], 1)
	for field, bad := range map[string]string{"every": "hour", "time_zone": "Mars/Base", "starts_on": "1999-01-01", "until_on": "2026-03-01"} {
		wrong := obj{"title": "Rent", "money": euros(90000), "every": "month", "starts_on": "2026-03-31"}
		wrong[field] = bad
		b.refused(400, "bad_recurrence", "POST", b.path+"/recurring-expenses", b.ana.token, wrong)
	}
	b.ok("DELETE", path, b.ana.token, nil)
	b.refused(404, "recurring_expense_not_found", "DELETE", path, b.ana.token, nil)
}
