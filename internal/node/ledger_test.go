package node

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/core/ledger"
)

// The currencies of the test have no, two and three decimals.
var provedCurrencies = []string{"EUR", "JPY", "KWD"}

// People of a few groups add, change, delete, settle, undo and convert, leave and come
// back, at three nodes at once, while connections to the database break in the COMMIT
// and somebody else writes to the same books: after each so many operations all that was
// acknowledged is there once, nothing else is, and whatever the API says of who owes
// whom is what a recount of the acknowledged operations says.
// `make prove-ledger` plays 100,000 operations.
func TestLedgerUnderFaults(t *testing.T) {
	ops, perCheck := 3000, 1000
	if s := os.Getenv("MUSTER_PROVE_LEDGER"); s != "" {
		var err error
		ops, err = strconv.Atoi(s)
		require.NoError(t, err)
		perCheck = 1000
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("MUSTER_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("MUSTER_SEED=%d", seed)

	var faults devdb.Faults
	var breaking atomic.Bool
	var mu sync.Mutex
	dice := rand.New(rand.NewPCG(seed, 1))
	faults.Decide = func(commit bool) devdb.Cut {
		if !commit || !breaking.Load() {
			return devdb.Spare
		}
		mu.Lock()
		defer mu.Unlock()
		switch n := dice.IntN(1000); {
		case n < 20:
			return devdb.CutAnswered
		case n < 30:
			return devdb.CutLost
		case n < 35:
			return devdb.CutUnsent
		}
		return devdb.Spare
	}
	url := devdb.TestURL(t)
	calm := devdb.Connect(t, url, db.Config{}) // of the test itself
	m, err := NewMesh(MeshConfig{
		Regions: 1, Nodes: 3, DB: devdb.Connect(t, url, db.Config{Dial: faults.Dial}), Secret: []byte(strings.Repeat("s", 32)), InviteBase: "https://muster.test/join/",
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError + 1})), // jobs meet the faults, too
	})
	require.NoError(t, err)
	require.NoError(t, m.Start(t.Context()))
	t.Cleanup(m.Stop)

	p := &proof{t: t, db: calm, books: ledger.New(calm, ledger.Config{}), http: &http.Client{Timeout: 30 * time.Second}}
	for _, n := range m.Topology.Regions[0].Nodes {
		p.nodes = append(p.nodes, n.HTTP+"/api/v1")
	}
	for i := range 4 {
		p.groups = append(p.groups, p.found(i, 6))
	}
	breaking.Store(true)
	defer breaking.Store(false)
	storm, calmDown := context.WithCancel(t.Context())
	var weather sync.WaitGroup
	defer weather.Wait()
	defer calmDown()
	weather.Go(func() { p.storm(storm, seed) })

	for done, round := 0, 0; done < ops && !t.Failed(); done, round = done+perCheck, round+1 {
		var writers sync.WaitGroup
		const writing = 12
		for w := range writing {
			writers.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(2+round*writing+w)))
				for range perCheck / writing {
					p.groups[w%len(p.groups)].play(r)
				}
			})
		}
		writers.Wait()
		if t.Failed() {
			return
		}
		last := done+perCheck >= ops
		for _, g := range p.groups {
			g.check(last || round%10 == 0)
		}
		report, err := p.books.Verify(t.Context())
		require.NoError(t, err)
		require.Empty(t, report.Faults, "after %d operations", done+perCheck)
		if last || round%10 == 9 {
			t.Logf("%d transactions with %d postings in %d books", report.Transactions, report.Postings, len(report.Heads))
		}
	}
	t.Logf("%s; %d connections broken in a COMMIT, %d requests sent again, %d storms", p.tally(), faults.Cuts(), p.again.Load(), p.storms.Load())
	require.Positive(t, faults.Cuts())
	for _, what := range []string{"create", "edit", "delete", "settle", "undo", "convert", "leave", "join"} {
		require.Positive(t, p.count(what), what)
	}
}

// proof is the people, and what they were told.
type proof struct {
	t             *testing.T
	db            *db.DB
	books         *ledger.Store
	http          *http.Client
	nodes         []string
	groups        []*provedGroup
	again, storms atomic.Int64

	mu   sync.Mutex
	done map[string]int // operations that were carried out, by kind
}

func (p *proof) did(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done == nil {
		p.done = map[string]int{}
	}
	p.done[what]++
}

func (p *proof) count(what string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done[what]
}

func (p *proof) tally() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprint(p.done)
}

// storm has somebody who isn't one of the nodes change the books' heads now and then:
// whoever writes to one at that time meets a serialization failure.
func (p *proof) storm(ctx context.Context, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	for ctx.Err() == nil {
		g := p.groups[r.IntN(len(p.groups))]
		for range r.IntN(20) {
			err := p.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
				_, err := tx.Exec(ctx, `UPDATE ledger_books SET seq = seq WHERE book = $1`, string(ledger.GroupBook(g.id)))
				return err
			})
			if err == nil {
				p.storms.Add(1)
			}
		}
		select {
		case <-time.After(time.Duration(r.IntN(200)) * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// ask sends a request until there is an answer that says what happened, always under
// the same key. Refusals are answers: nothing was done then.
func (p *proof) ask(r *rand.Rand, u *provedUser, method, path string, in, out any) (status int) {
	body, err := json.Marshal(in)
	require.NoError(p.t, err)
	key := uuid.NewString()
	for try := 0; ; try++ {
		req, err := http.NewRequestWithContext(p.t.Context(), method, p.nodes[r.IntN(len(p.nodes))]+path, bytes.NewReader(body))
		require.NoError(p.t, err)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", key)
		token := ""
		if u != nil {
			token = u.access()
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := p.http.Do(req)
		if err == nil {
			var answer []byte
			answer, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			switch {
			case resp.StatusCode == http.StatusUnauthorized && u != nil && err == nil:
				p.renew(u, token)
				err = io.EOF
			case err != nil || resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
				err = fmt.Errorf("%d: %s: %w", resp.StatusCode, answer, cmp.Or(err, io.EOF))
			case resp.StatusCode < 300 && out != nil:
				require.NoError(p.t, json.Unmarshal(answer, out), "%s", answer)
				return resp.StatusCode
			default:
				if resp.StatusCode >= 400 {
					p.refused(answer)
				}
				return resp.StatusCode
			}
		}
		if try == 100 {
			require.NoError(p.t, err, "%s %s", method, path)
		}
		p.again.Add(1)
		select {
		case <-time.After(time.Duration(min(try, 10)) * 30 * time.Millisecond):
		case <-p.t.Context().Done():
			return 0
		}
	}
}

// refused counts refusals by their code.
func (p *proof) refused(answer []byte) {
	var problem struct{ Code string }
	require.NoError(p.t, json.Unmarshal(answer, &problem), "%s", answer)
	p.did("refused: " + problem.Code)
}

// provedGroup is a group, and what a recount of its acknowledged operations is made of.
type provedGroup struct {
	*proof
	id     core.GroupID
	code   string
	people []*provedUser

	mu          sync.Mutex
	expenses    map[string]*provedExpense
	settlements map[string]*provedSettlement
}

type provedUser struct {
	id  string
	out atomic.Bool // has left; the others may not have noticed

	mu             sync.Mutex // guards the following
	token, renewal string
}

func (u *provedUser) access() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.token
}

// renew trades the refresh token for another access token, unless somebody just did.
func (p *proof) renew(u *provedUser, lapsed string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.token != lapsed {
		return
	}
	var t struct {
		Token   string `json:"token"`
		Renewal string `json:"refresh_token"`
	}
	status := p.ask(rand.New(rand.NewPCG(0, 0)), nil, "POST", "/auth/refresh", object{"refresh_token": u.renewal}, &t)
	require.Less(p.t, status, 300)
	u.token, u.renewal = t.Token, t.Renewal
}

type (
	stakeJSON struct {
		UserID string `json:"user_id,omitempty"`
		Wallet bool   `json:"wallet,omitempty"`
		Amount int64  `json:"amount"`
	}
	partyJSON struct {
		UserID string `json:"user_id,omitempty"`
		Wallet bool   `json:"wallet,omitempty"`
	}
	expenseJSON struct {
		ID      string      `json:"expense_id"`
		Version int64       `json:"version"`
		Money   core.Money  `json:"money"`
		Payers  []stakeJSON `json:"payers"`
		Shares  []stakeJSON `json:"shares"`
		Deleted bool        `json:"deleted"`
		By      string      `json:"created_by"`
	}
	provedExpense    = expenseJSON
	provedSettlement struct {
		ID     string      `json:"settlement_id"`
		Status string      `json:"status"`
		From   partyJSON   `json:"from"`
		To     partyJSON   `json:"to"`
		Money  core.Money  `json:"money"`
		Into   *core.Money `json:"into"`
	}
	object = map[string]any
)

func (p partyJSON) name() string {
	if p.Wallet {
		return "wallet"
	}
	return p.UserID
}

func (s stakeJSON) name() string { return partyJSON{s.UserID, s.Wallet}.name() }

// found makes a group of guests.
func (p *proof) found(n, size int) *provedGroup {
	r := rand.New(rand.NewPCG(uint64(n), 0))
	g := &provedGroup{proof: p, expenses: map[string]*provedExpense{}, settlements: map[string]*provedSettlement{}}
	for i := range size {
		var u struct {
			UserID  string `json:"user_id"`
			Token   string `json:"token"`
			Renewal string `json:"refresh_token"`
		}
		require.Less(p.t, p.ask(r, nil, "POST", "/auth/guest", object{"username": fmt.Sprintf("p%d-%d", n, i), "device_info": object{"model": "test"}}, &u), 300)
		require.NotEmpty(p.t, u.Token)
		g.people = append(g.people, &provedUser{id: u.UserID, token: u.Token, renewal: u.Renewal})
	}
	var made struct {
		GroupID string `json:"group_id"`
		Code    string `json:"invite_code"`
	}
	require.Less(p.t, p.ask(r, g.people[0], "POST", "/groups", object{"name": fmt.Sprintf("g%d", n)}, &made), 300)
	var err error
	g.id, err = core.ParseGroupID(made.GroupID)
	require.NoError(p.t, err)
	g.code = made.Code
	for _, u := range g.people[1:] {
		g.join(r, u)
	}
	return g
}

func (g *provedGroup) path(more string) string { return "/groups/" + g.id.String() + more }

func (g *provedGroup) join(r *rand.Rand, u *provedUser) {
	if g.ask(r, u, "POST", "/groups/join", object{"invite_code": g.code}, nil) < 300 {
		u.out.Store(false)
		g.did("join")
	}
}

// play carries one random operation out.
func (g *provedGroup) play(r *rand.Rand) {
	u := g.people[r.IntN(len(g.people))]
	switch n := r.IntN(100); {
	case u.out.Load() && n < 60: // the rest is refused
		g.join(r, u)
	case n < 45:
		g.create(r, u)
	case n < 60:
		g.edit(r, u)
	case n < 70:
		g.remove(r, u)
	case n < 83:
		g.settle(r, u)
	case n < 88:
		g.undo(r, u)
	case n < 94:
		g.convert(r, u)
	case n < 96 && u != g.people[0]:
		if g.ask(r, u, "POST", g.path("/leave"), object{}, nil) < 300 {
			u.out.Store(true)
			g.did("leave")
		}
	default:
		g.create(r, u)
	}
}

// draft is a random expense, which may be one that is refused.
func (g *provedGroup) draft(r *rand.Rand) object {
	amount := r.Int64N(20_000)
	some := slices.Clone(g.people)
	r.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
	some = some[:1+r.IntN(len(some))]
	mode := []string{"equal", "exact", "percent", "shares", "weights"}[r.IntN(5)]
	var parts []object
	left, percent := amount, int64(1_000_000)
	for i, u := range some {
		part, last := object{"user_id": u.id}, i == len(some)-1
		cut := func(all *int64) int64 {
			n := *all
			if !last {
				n = r.Int64N(n + 1)
			}
			*all -= n
			return n
		}
		switch mode {
		case "exact":
			part["amount"] = cut(&left)
		case "percent":
			n := cut(&percent)
			part["percent"] = fmt.Sprintf("%d.%04d", n/10_000, n%10_000)
		case "shares":
			part["shares"] = 1 + r.IntN(5)
		case "weights":
			part["weight"] = fmt.Sprintf("%d.%d", r.IntN(10), 1+r.IntN(9))
		}
		parts = append(parts, part)
	}
	d := object{
		"title": "something", "money": core.Money{Amount: amount, Currency: core.Currency(provedCurrencies[r.IntN(len(provedCurrencies))])},
		"split": object{"mode": mode, "parts": parts},
	}
	if r.IntN(3) == 0 { // several payers, perhaps the wallet
		first, second := stakeJSON{UserID: g.people[r.IntN(3)].id, Amount: amount / 3}, stakeJSON{UserID: g.people[3+r.IntN(3)].id, Amount: amount - amount/3}
		if r.IntN(2) == 0 {
			second.UserID, second.Wallet = "", true
		}
		d["payers"] = []stakeJSON{first, second}
	}
	return d
}

func (g *provedGroup) create(r *rand.Rand, u *provedUser) {
	var e provedExpense
	if g.ask(r, u, "POST", g.path("/expenses"), g.draft(r), &e) >= 300 {
		return
	}
	g.did("create")
	g.mu.Lock()
	defer g.mu.Unlock()
	require.NotContains(g.t, g.expenses, e.ID)
	g.expenses[e.ID] = &e
}

// pick is one of the expenses that there were, as it was when last heard of.
func (g *provedGroup) pick(r *rand.Rand) (e provedExpense, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	ids := make([]string, 0, len(g.expenses))
	for id := range g.expenses {
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return e, false
	}
	slices.Sort(ids)
	return *g.expenses[ids[r.IntN(len(ids))]], true
}

// author is mostly who added an expense: others often may not change it.
func (g *provedGroup) author(r *rand.Rand, e provedExpense, u *provedUser) *provedUser {
	if i := slices.IndexFunc(g.people, func(u *provedUser) bool { return u.id == e.By }); i >= 0 && r.IntN(4) > 0 {
		return g.people[i]
	}
	return u
}

func (g *provedGroup) edit(r *rand.Rand, u *provedUser) {
	was, ok := g.pick(r)
	if !ok {
		return
	}
	u = g.author(r, was, u)
	d := g.draft(r)
	d["version"] = was.Version
	var e provedExpense
	if g.ask(r, u, "PUT", g.path("/expenses/"+was.ID), d, &e) >= 300 {
		return
	}
	g.did("edit")
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.expenses[e.ID]
	require.Equal(g.t, was.Version+1, e.Version)
	if e.Version > now.Version {
		e.Deleted = now.Deleted // somebody was told so already
		*now = e
	}
}

func (g *provedGroup) remove(r *rand.Rand, u *provedUser) {
	was, ok := g.pick(r)
	if !ok || g.ask(r, g.author(r, was, u), "DELETE", g.path("/expenses/"+was.ID), nil, nil) >= 300 {
		return
	}
	g.did("delete")
	g.mu.Lock()
	defer g.mu.Unlock()
	g.expenses[was.ID].Deleted = true
}

// other is somebody else, or the wallet.
func (g *provedGroup) other(r *rand.Rand, u *provedUser) partyJSON {
	for {
		if o := g.people[r.IntN(len(g.people))]; o != u {
			return partyJSON{UserID: o.id}
		} else if r.IntN(3) == 0 {
			return partyJSON{Wallet: true}
		}
	}
}

func (g *provedGroup) settle(r *rand.Rand, u *provedUser) {
	g.record(r, u, "settle", "/settlements", object{
		"to": g.other(r, u), "money": core.Money{Amount: 1 + r.Int64N(10_000), Currency: core.Currency(provedCurrencies[r.IntN(3)])}, "method": "cash",
	})
}

func (g *provedGroup) convert(r *rand.Rand, u *provedUser) {
	i := r.IntN(3)
	g.record(r, u, "convert", "/conversions", object{
		"to": g.other(r, u), "money": core.Money{Amount: 1 + r.Int64N(10_000), Currency: core.Currency(provedCurrencies[i])},
		"into": provedCurrencies[(i+1+r.IntN(2))%3], "rate": fmt.Sprintf("%d.%03d", r.IntN(3), 1+r.IntN(999)),
	})
}

func (g *provedGroup) record(r *rand.Rand, u *provedUser, what, path string, in object) {
	var s provedSettlement
	if g.ask(r, u, "POST", g.path(path), in, &s) >= 300 {
		return
	}
	g.did(what)
	g.mu.Lock()
	defer g.mu.Unlock()
	require.NotContains(g.t, g.settlements, s.ID)
	g.settlements[s.ID] = &s
}

func (g *provedGroup) undo(r *rand.Rand, u *provedUser) {
	g.mu.Lock()
	ids := make([]string, 0, len(g.settlements))
	for id := range g.settlements {
		ids = append(ids, id)
	}
	g.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	slices.Sort(ids)
	id := ids[r.IntN(len(ids))]
	if g.ask(r, u, "DELETE", g.path("/settlements/"+id), nil, nil) >= 300 {
		return
	}
	g.did("undo")
	g.mu.Lock()
	defer g.mu.Unlock()
	g.settlements[id].Status = "undone"
}
