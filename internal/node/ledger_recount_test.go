package node

import (
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// account is somebody's, or the wallet's, in a currency.
type account struct {
	who      string
	currency core.Currency
}

// recount is what all operations come to, by the plainest rule: whoever pays is owed
// that, whoever bears a share owes it.
func (g *provedGroup) recount() (balances map[account]int64, spent map[core.Currency]int64) {
	balances, spent = map[account]int64{}, map[core.Currency]int64{}
	for _, e := range g.expenses {
		if e.Deleted {
			continue
		}
		spent[e.Money.Currency] += e.Money.Amount
		for _, s := range e.Payers {
			balances[account{s.name(), e.Money.Currency}] += s.Amount
		}
		for _, s := range e.Shares {
			balances[account{s.name(), e.Money.Currency}] -= s.Amount
		}
	}
	for _, s := range g.settlements {
		if s.Status != "recorded" {
			continue
		}
		balances[account{s.From.name(), s.Money.Currency}] += s.Money.Amount
		balances[account{s.To.name(), s.Money.Currency}] -= s.Money.Amount
		if s.Into != nil {
			balances[account{s.From.name(), s.Into.Currency}] -= s.Into.Amount
			balances[account{s.To.name(), s.Into.Currency}] += s.Into.Amount
		}
	}
	for a, n := range balances {
		if n == 0 {
			delete(balances, a)
		}
	}
	return balances, spent
}

// check compares all that is stored with what was acknowledged.
func (g *provedGroup) check(explained bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := rand.New(rand.NewPCG(0, 0))
	g.stored()

	var told struct {
		Balances []struct {
			partyJSON
			Money core.Money `json:"money"`
		} `json:"balances"`
		Transfers []struct {
			From  partyJSON  `json:"from"`
			To    partyJSON  `json:"to"`
			Money core.Money `json:"money"`
		} `json:"transfers"`
		Wallets []struct {
			Currency core.Currency `json:"currency"`
			Spent    int64         `json:"spent"`
			Kitty    int64         `json:"kitty"`
		} `json:"wallets"`
	}
	require.Equal(g.t, 200, g.ask(r, g.people[0], "GET", g.path("/balances"), nil, &told))
	balances, spent := g.recount()
	got, sums := map[account]int64{}, map[core.Currency]int64{}
	for _, b := range told.Balances {
		got[account{b.name(), b.Money.Currency}] = b.Money.Amount
		sums[b.Money.Currency] += b.Money.Amount
	}
	require.Equal(g.t, balances, got)
	for c, sum := range sums {
		require.Zero(g.t, sum, c)
	}
	for _, w := range told.Wallets {
		require.Equal(g.t, spent[w.Currency], w.Spent, w.Currency)
		require.Equal(g.t, -balances[account{"wallet", w.Currency}], w.Kitty, w.Currency)
		delete(spent, w.Currency)
	}
	for c, n := range spent {
		require.Zero(g.t, n, c)
	}
	// Who pays what is to be paid owes nothing any more.
	type pair struct {
		from, to string
		currency core.Currency
	}
	transfers := map[pair]int64{}
	for _, x := range told.Transfers {
		require.Positive(g.t, x.Money.Amount)
		transfers[pair{x.From.name(), x.To.name(), x.Money.Currency}] = x.Money.Amount
		balances[account{x.From.name(), x.Money.Currency}] += x.Money.Amount
		balances[account{x.To.name(), x.Money.Currency}] -= x.Money.Amount
	}
	for a, n := range balances {
		require.Zero(g.t, n, "%v after all transfers", a)
	}
	if !explained {
		return
	}
	names := []string{"wallet"}
	for _, u := range g.people {
		names = append(names, u.id)
	}
	for _, currency := range provedCurrencies {
		for i, from := range names {
			for _, to := range names[i+1:] {
				want := transfers[pair{from, to, core.Currency(currency)}] - transfers[pair{to, from, core.Currency(currency)}]
				require.Equal(g.t, want, g.explain(r, from, to, currency), "why %s is to pay %s so much %s", from, to, currency)
			}
		}
	}
}

// explain adds up why one is to pay another so much.
func (g *provedGroup) explain(r *rand.Rand, from, to, currency string) (sum int64) {
	var why struct {
		Total, Direct core.Money
		Circles       []struct{ Money core.Money }
		Lines         []struct{ Money core.Money }
	}
	next := g.path("/debts/explain?limit=200&from=" + from + "&to=" + to + "&currency=" + currency)
	for page := 0; next != ""; page++ {
		why.Lines, why.Circles = nil, nil
		req, err := http.NewRequestWithContext(g.t.Context(), "GET", g.nodes[0]+next, nil)
		require.NoError(g.t, err)
		token := g.people[0].access()
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := g.http.Do(req)
		require.NoError(g.t, err)
		answer, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		require.NoError(g.t, err)
		if resp.StatusCode == http.StatusTooManyRequests {
			select {
			case <-time.After(time.Second):
			case <-g.t.Context().Done():
			}
			page--
			continue
		}
		if resp.StatusCode == http.StatusUnauthorized {
			g.renew(g.people[0], token)
			page--
			continue
		}
		if resp.StatusCode == http.StatusNotFound && strings.Contains(string(answer), "member_not_found") {
			return 0 // has left, and nothing is open
		}
		require.Equal(g.t, 200, resp.StatusCode, "%s", answer)
		require.NoError(g.t, json.Unmarshal(answer, &why))
		for _, l := range why.Lines {
			sum += l.Money.Amount
		}
		if page == 0 {
			for _, c := range why.Circles {
				sum += c.Money.Amount
			}
		}
		_, next, _ = strings.Cut(resp.Header.Get("Link"), "/api/v1")
		next, _, _ = strings.Cut(next, ">")
	}
	require.Equal(g.t, why.Total.Amount, sum, "%s owes %s: %+v", from, to, why)
	return sum
}

// stored compares what the database holds: nothing is missing, and nothing is there
// that nobody was told of.
func (g *provedGroup) stored() {
	type row struct {
		Version int64
		Deleted bool
	}
	want, got := map[string]row{}, map[string]row{}
	wantSettled, gotSettled := map[string]string{}, map[string]string{}
	for id, e := range g.expenses {
		version := e.Version
		if e.Deleted {
			version = 0 // deleting counts, and somebody may have edited it just before
		}
		want[id] = row{version, e.Deleted}
	}
	for id, s := range g.settlements {
		wantSettled[id] = s.Status
	}
	require.NoError(g.t, g.db.Read(g.t.Context(), func(ctx context.Context, q db.Querier) error {
		var id uuid.UUID
		var e row
		rows, err := q.Query(ctx, `SELECT id, version, deleted FROM expenses WHERE group_id = $1`, g.id)
		if err != nil {
			return err
		}
		if _, err := pgx.ForEachRow(rows, []any{&id, &e.Version, &e.Deleted}, func() error {
			if e.Deleted {
				e.Version = 0
			}
			got[id.String()] = e
			return nil
		}); err != nil {
			return err
		}
		var status string
		if rows, err = q.Query(ctx, `SELECT id, status FROM settlements WHERE group_id = $1`, g.id); err != nil {
			return err
		}
		_, err = pgx.ForEachRow(rows, []any{&id, &status}, func() error {
			gotSettled[id.String()] = status
			return nil
		})
		return err
	}))
	require.Equal(g.t, want, got)
	require.Equal(g.t, wantSettled, gotSettled)
}
