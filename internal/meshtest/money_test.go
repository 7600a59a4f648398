package meshtest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/client"
)

// updates collects the kinds of what a room's members are told about it.
type updates struct {
	who   string
	mu    sync.Mutex
	kinds []string
	told  map[string]bool // ids: what is told again is one change
	again []string        // that something may not have been told, and is to be read
	late  time.Duration   // the longest from a change to its arrival
}

func (u *User) updates(r *client.Room) *updates {
	h := &updates{who: u.Name, told: map[string]bool{}}
	events := r.Events(u.mesh.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for e := range events {
			h.take(e)
		}
	})
	u.mesh.t.Cleanup(wg.Wait)
	return h
}

func (h *updates) take(e client.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch e := e.(type) {
	case client.Updated:
		if e.Missed {
			h.again = append(h.again, fmt.Sprintf("%s is %d", e.Update.Kind, e.Update.N))
		}
		if !h.told[e.Update.ID] {
			h.told[e.Update.ID] = true
			h.kinds = append(h.kinds, e.Update.Kind)
			h.late = max(h.late, time.Since(e.Update.At))
		}
	case client.RegionReplaced:
		if !e.Recovered || e.Late {
			h.again = append(h.again, fmt.Sprintf("%s is known anew", e.Region))
		}
	}
}

func (h *updates) money() (kinds []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range h.kinds {
		if !strings.HasPrefix(k, "group.") {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

func (h *updates) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Sprintf("%s heard %v, and was to read: %v", h.who, h.kinds, h.again)
}

// Two people in two regions share what they spend: each hears at once what the other
// one does, both see the same, and it explains itself.
func TestMoneyOfTwoRegions(t *testing.T) {
	t.Parallel()
	m := Start(t, 2, 1)
	ctx := t.Context()
	ana, bo := m.Guest(0, "Ana").Connect(0, 0, client.Auto), m.Guest(1, "Bo").Connect(1, 0, client.Auto)
	group := m.Group(ana, bo)
	rooms := []*client.Room{ana.Join(group), bo.Join(group)}
	heard := []*updates{ana.updates(rooms[0]), bo.updates(rooms[1])}
	for _, r := range rooms { // until the regions follow each other there, what is told meanwhile is to be read
		m.Eventually("each region knows the other", func() bool { return len(r.Members()) == 2 })
	}
	var all []string
	hear := func(what ...string) {
		t.Helper()
		all = append(all, what...)
		for _, h := range heard {
			require.Eventually(t, func() bool { return slices.Equal(h.money(), all) }, Patience, 5*time.Millisecond, "%v is heard: %v", what, heard)
		}
	}

	lunch := client.ExpenseDraft{Title: "Lunch", Money: client.Money{Amount: 2501, Currency: "EUR"}}
	e, err := ana.API.AddExpense(ctx, group, lunch)
	require.NoError(t, err)
	hear("expense.created", "balance.changed")
	var sum int64
	for _, s := range e.Shares {
		sum += s.Amount
	}
	require.Len(t, e.Shares, 2)
	require.EqualValues(t, 2501, sum)

	// Both change it: the second is told, and shown both sides.
	lunch.Money.Amount = 3000
	two, err := ana.API.EditExpense(ctx, group, e.ID, 1, lunch)
	require.NoError(t, err)
	require.EqualValues(t, 2, two.Version)
	_, err = ana.API.EditExpense(ctx, group, e.ID, 1, client.ExpenseDraft{Title: "Dinner", Money: lunch.Money})
	require.True(t, client.IsCode(err, "expense_changed"), "%v", err)
	present, ok := client.PresentExpense(err)
	require.True(t, ok)
	require.Equal(t, two, present)
	hear("expense.updated", "balance.changed")

	owed := func(api *client.API) (amount int64) {
		b, err := api.Balances(ctx, group)
		require.NoError(t, err)
		for _, x := range b.Transfers {
			require.Equal(t, bo.ID, x.From.UserID)
			require.Equal(t, ana.ID, x.To.UserID)
			amount += x.Money.Amount
		}
		return amount
	}
	require.EqualValues(t, 1500, owed(ana.API))
	require.EqualValues(t, 1500, owed(bo.API))
	why, err := bo.API.Explain(ctx, group, bo.ID, ana.ID, "EUR")
	require.NoError(t, err)
	require.EqualValues(t, 1500, why.Total.Amount)
	sum = 0
	for _, l := range why.Lines {
		sum += l.Money.Amount
	}
	require.Equal(t, why.Direct.Amount, sum)
	require.Len(t, why.Lines, 3, "added, taken back, added again")

	paid, err := bo.API.Settle(ctx, group, client.SettlementDraft{To: client.MoneyParty{UserID: ana.ID}, Money: client.Money{Amount: 1000, Currency: "EUR"}})
	require.NoError(t, err)
	hear("settlement.created", "balance.changed")
	require.EqualValues(t, 500, owed(ana.API))
	_, err = ana.API.UndoSettlement(ctx, group, paid.ID)
	require.NoError(t, err)
	hear("settlement.updated", "balance.changed")
	require.EqualValues(t, 1500, owed(bo.API))
	list, err := bo.API.Settlements(ctx, group)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, "undone", list[0].Status)

	require.NoError(t, ana.API.DeleteExpense(ctx, group, e.ID))
	hear("expense.deleted", "balance.changed")
	require.Zero(t, owed(bo.API))
	history, err := bo.API.ExpenseHistory(ctx, group, e.ID)
	require.NoError(t, err)
	require.True(t, history[0].Deleted)
	require.EqualValues(t, 1, history[len(history)-1].Version)
	for i, h := range heard {
		h.mu.Lock()
		t.Logf("region %d heard within %s", i, h.late.Round(time.Millisecond))
		h.mu.Unlock()
	}
}
