package subscriptions

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// Free is the plan of whoever pays for none.
const Free = "free"

// The features that are checked somewhere.
const (
	UploadBytes  = "upload_bytes"  // of files that are kept, in all
	GroupMembers = "group_members" // of a group that one owns
)

// Features are what a plan allows: switches (true) and numbers, by name.
type Features map[string]any

// Limit is a feature's number; ok is false if the plan sets none.
func (f Features) Limit(name string) (n int64, ok bool) {
	number, ok := f[name].(float64) // as JSON has it
	return int64(number), ok
}

// Allows tells whether a feature is there.
func (f Features) Allows(name string) bool {
	switch v := f[name].(type) {
	case bool:
		return v
	case float64:
		return v > 0
	}
	return false
}

// Plan is what can be subscribed to.
type Plan struct {
	ID        string
	Name      string
	Rank      int64
	Months    int // of a period
	TrialDays int
	Features  Features
	Prices    []core.Money // one per currency, by its code
}

// Price is what a plan costs in a currency.
func (p Plan) Price(c core.Currency) (core.Money, bool) {
	for _, m := range p.Prices {
		if m.Currency == c {
			return m, true
		}
	}
	return core.Money{}, false
}

// Plans are what is offered, the cheapest first. They may be some seconds old.
func (s *Store) Plans(ctx context.Context) (list []Plan, err error) {
	err = s.db.ReadStale(ctx, func(ctx context.Context, q db.Querier) error {
		list, err = plans(ctx, q)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("plans: %w", err)
	}
	return list, nil
}

func plans(ctx context.Context, q db.Querier) ([]Plan, error) {
	rows, err := q.Query(ctx, `SELECT p.id, p.name, p.rank, p.months, p.trial_days, p.features, coalesce(c.amount, 0), coalesce(c.currency, '')
		FROM plans p LEFT JOIN plan_prices c ON c.plan_id = p.id WHERE p.offered ORDER BY p.rank, p.id, c.currency`)
	if err != nil {
		return nil, err
	}
	var list []Plan
	for rows.Next() {
		var p Plan
		var m core.Money
		if err := rows.Scan(&p.ID, &p.Name, &p.Rank, &p.Months, &p.TrialDays, &p.Features, &m.Amount, &m.Currency); err != nil {
			return nil, err
		}
		if n := len(list); n == 0 || list[n-1].ID != p.ID {
			list = append(list, p)
		}
		if m.Currency != "" {
			last := &list[len(list)-1]
			last.Prices = append(last.Prices, m)
		}
	}
	return list, rows.Err()
}

// plan finds one that is offered.
func plan(ctx context.Context, tx pgx.Tx, id string) (Plan, error) {
	list, err := plans(ctx, tx)
	if err != nil {
		return Plan{}, err
	}
	for _, p := range list {
		if p.ID == id {
			return p, nil
		}
	}
	return Plan{}, ErrNoPlan.At("body.plan_id")
}
