package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/expenses"
	"github.com/mustermesh/muster/core/ledger"
)

// MoneyParty is a member, somebody who has left, or the group's wallet.
type MoneyParty struct {
	UserID   string `json:"user_id,omitempty" doc:"UUID"`
	Wallet   bool   `json:"wallet,omitempty" doc:"The group's wallet, instead of a user"`
	Username string `json:"username,omitempty" doc:"In answers; empty: their account is gone"`
	Picture  string `json:"profile_picture,omitempty"`
	Left     bool   `json:"left,omitempty" doc:"They are no member any more, and keep their debts"`
}

// MoneyBalance is what a party is owed, or owes.
type MoneyBalance struct {
	MoneyParty
	Money core.Money `json:"money" doc:"Owed to them; negative: they owe"`
}

// MoneyTransfer is what one is to pay another.
type MoneyTransfer struct {
	From  MoneyParty `json:"from"`
	To    MoneyParty `json:"to"`
	Money core.Money `json:"money"`
}

// GroupWallet is how a group stands in a currency.
type GroupWallet struct {
	Currency core.Currency `json:"currency"`
	Spent    int64         `json:"spent" doc:"By all expenses, in minor units"`
	Kitty    int64         `json:"kitty" doc:"What the wallet holds, in minor units; negative: it owes"`
}

// DebtLine is something that changed what one owes another.
type DebtLine struct {
	Seq           int64      `json:"seq" doc:"The number of its transaction in the group's book"`
	TransactionID string     `json:"transaction_id" doc:"UUID"`
	Kind          string     `json:"kind" enum:"expense,settlement,conversion,refund"`
	Reverses      string     `json:"reverses,omitempty" doc:"The transaction that it takes back: an edit, a deletion, an undone settlement"`
	Ref           string     `json:"ref" doc:"The expense or settlement"`
	Title         string     `json:"title,omitempty" doc:"Of the expense"`
	By            string     `json:"by,omitempty" doc:"UUID of a user"`
	At            time.Time  `json:"at"`
	Money         core.Money `json:"money" doc:"What is owed more by it; negative: less"`
}

// DebtCircle is a debt that simplifying sends around.
type DebtCircle struct {
	People []MoneyParty `json:"people" nullable:"false" doc:"Each owes the next one more by it, and the last one the first: nobody's balance changes"`
	Money  core.Money   `json:"money" doc:"What it adds to what is explained; negative: what it takes from that"`
}

func partyOf(a ledger.Account, people map[ledger.Account]expenses.Person) MoneyParty {
	if a == ledger.Wallet {
		return MoneyParty{Wallet: true}
	}
	user, _ := a.Member()
	p := people[a]
	return MoneyParty{UserID: user.String(), Username: p.Name, Picture: p.Picture, Left: people != nil && !p.Member}
}

func (a *api) balanceOperations() {
	type balancesInput struct {
		Group string `path:"group_id"`
	}
	type balancesOutput struct {
		Body struct {
			Simplified bool            `json:"simplified" doc:"Transfers are the fewest that settle all; the group's setting simplify_debts: false shows debts as they are"`
			Balances   []MoneyBalance  `json:"balances" nullable:"false" doc:"Of all who owe or are owed; those of a currency come to zero"`
			Transfers  []MoneyTransfer `json:"transfers" nullable:"false" doc:"Who is to pay whom"`
			Wallets    []GroupWallet   `json:"wallets" nullable:"false"`
		}
	}
	register(a, operation{id: "get-balances", method: http.MethodGet, path: "/groups/{group_id}/balances", tag: tagExpenses, summary: "Who owes whom in a group, and what it has spent"},
		func(ctx context.Context, in *balancesInput) (*balancesOutput, error) {
			group, err := groupID(in.Group)
			if err != nil {
				return nil, err
			}
			st, err := a.Expenses.Balances(ctx, caller(ctx).User, group)
			if err != nil {
				return nil, err
			}
			out := &balancesOutput{}
			b := &out.Body
			b.Simplified, b.Balances, b.Transfers, b.Wallets = st.Simplified, []MoneyBalance{}, []MoneyTransfer{}, []GroupWallet{}
			for _, p := range st.Positions {
				b.Wallets = append(b.Wallets, GroupWallet{p.Currency, p.Spent, p.Kitty})
				for _, s := range p.Balances {
					b.Balances = append(b.Balances, MoneyBalance{partyOf(s.Who, st.People), core.Money{Amount: s.Amount, Currency: p.Currency}})
				}
				for _, t := range p.Transfers {
					b.Transfers = append(b.Transfers, MoneyTransfer{partyOf(t.From, st.People), partyOf(t.To, st.People), core.Money{Amount: t.Amount, Currency: p.Currency}})
				}
			}
			return out, nil
		})

	type explainInput struct {
		Group    string `path:"group_id"`
		From     string `query:"from" required:"true" doc:"Who owes: UUID of a user, or wallet"`
		To       string `query:"to" required:"true" doc:"Whom: UUID of a user, or wallet"`
		Currency string `query:"currency" required:"true"`
		Limit    int    `query:"limit" default:"50" minimum:"1" maximum:"200"`
		Cursor   string `query:"cursor" doc:"From the Link header of the page before"`
	}
	type explainOutput struct {
		Link string `header:"Link" doc:"The next page of lines, if there is one"`
		Body struct {
			From       MoneyParty   `json:"from"`
			To         MoneyParty   `json:"to"`
			Simplified bool         `json:"simplified"`
			Total      core.Money   `json:"total" doc:"What from is to pay to, as balances says; negative: the other way around. It is direct and all circles"`
			Direct     core.Money   `json:"direct" doc:"What all lines come to, those on other pages, too"`
			Circles    []DebtCircle `json:"circles" nullable:"false" doc:"Why total isn't direct"`
			Lines      []DebtLine   `json:"lines" nullable:"false" doc:"What was between the two, the newest first"`
		}
	}
	register(a, operation{id: "explain-debt", method: http.MethodGet, path: "/groups/{group_id}/debts/explain", tag: tagExpenses,
		summary: "Why one is to pay another so much: lines and circles that come to exactly that"},
		func(ctx context.Context, in *explainInput) (*explainOutput, error) {
			group, err := groupID(in.Group)
			if err != nil {
				return nil, err
			}
			from, err := queryParty(in.From, "query.from")
			if err != nil {
				return nil, err
			}
			to, err := queryParty(in.To, "query.to")
			if err != nil {
				return nil, err
			}
			x, next, err := a.Expenses.Explain(ctx, caller(ctx).User, group, from, to, core.Currency(in.Currency), in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			money := func(amount int64) core.Money { return core.Money{Amount: amount, Currency: x.Currency} }
			out := &explainOutput{Link: nextPage("/groups/"+in.Group+"/debts/explain", in.Limit, next, "from", in.From, "to", in.To, "currency", in.Currency)}
			b := &out.Body
			b.From, b.To, b.Simplified, b.Total, b.Direct = partyOf(from, x.People), partyOf(to, x.People), x.Simplified, money(x.Total), money(x.Direct)
			b.Circles, b.Lines = make([]DebtCircle, len(x.Circles)), make([]DebtLine, len(x.Lines))
			for i, c := range x.Circles {
				b.Circles[i].Money = money(c.Amount)
				if !c.Adds {
					b.Circles[i].Money = money(-c.Amount)
				}
				for _, p := range c.People {
					b.Circles[i].People = append(b.Circles[i].People, partyOf(p, x.People))
				}
			}
			for i, l := range x.Lines {
				b.Lines[i] = DebtLine{Seq: l.Seq, TransactionID: l.ID.String(), Kind: l.Kind, Ref: l.Ref.String(), Title: l.Title, By: userOrEmpty(l.By), At: l.At, Money: money(l.Amount)}
				if l.Reverses != nil {
					b.Lines[i].Reverses = l.Reverses.String()
				}
			}
			return out, nil
		})
}

func queryParty(s, field string) (ledger.Account, error) {
	if s == "wallet" {
		return ledger.Wallet, nil
	}
	return account(s, false, field)
}

// Settlement is money that one gave another, or a debt that was converted.
type Settlement struct {
	SettlementID string      `json:"settlement_id" doc:"UUID"`
	Kind         string      `json:"kind" enum:"payment,conversion"`
	Status       string      `json:"status" enum:"recorded,pending,settled,failed,undone" doc:"recorded: said by who recorded it; pending: waits for a card payment, which is settled or failed then; undone: taken back, or refunded. Balances know those that are recorded or settled"`
	Version      int64       `json:"version"`
	From         MoneyParty  `json:"from" doc:"Who paid; of a conversion, who owes"`
	To           MoneyParty  `json:"to"`
	Money        core.Money  `json:"money"`
	Refunded     int64       `json:"refunded,omitempty" doc:"Of it, in minor units"`
	Into         *core.Money `json:"into,omitempty" doc:"Of a conversion: what is owed instead"`
	Rate         string      `json:"rate,omitempty" doc:"Of a conversion"`
	Method       string      `json:"method" enum:"cash,transfer,other,card"`
	Note         string      `json:"note,omitempty"`
	CreatedBy    string      `json:"created_by" doc:"UUID of a user"`
	CreatedAt    time.Time   `json:"created_at"`
	ChangedAt    time.Time   `json:"changed_at"`
}

func settlementOf(s expenses.Settlement) Settlement {
	out := Settlement{
		SettlementID: s.ID.String(), Kind: s.Kind, Status: s.Status, Version: s.Version, From: partyOf(s.From, nil), To: partyOf(s.To, nil), Money: s.Money,
		Refunded: s.Refunded, Rate: s.Rate, Method: s.Method, Note: s.Note, CreatedBy: s.CreatedBy.String(), CreatedAt: s.CreatedAt, ChangedAt: s.ChangedAt,
	}
	if s.Kind == expenses.Conversion {
		out.Into = &s.Into
	}
	return out
}

// SettlementAnswer is a settlement.
type SettlementAnswer struct{ Body Settlement }

func settlementAnswer(s expenses.Settlement, err error) (*SettlementAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &SettlementAnswer{settlementOf(s)}, nil
}

// parties reads between whom a settlement is; from is the caller unless it is said.
func parties(ctx context.Context, from *MoneyParty, to MoneyParty) (x, y ledger.Account, err error) {
	x = ledger.Member(caller(ctx).User)
	if from != nil {
		if x, err = account(from.UserID, from.Wallet, "body.from"); err != nil {
			return x, y, err
		}
	}
	y, err = account(to.UserID, to.Wallet, "body.to")
	return x, y, err
}

func (a *api) settlementOperations() {
	type settleInput struct {
		Group string `path:"group_id"`
		Body  struct {
			From   *MoneyParty `json:"from,omitempty" doc:"Who pays: user_id or wallet; default: you"`
			To     MoneyParty  `json:"to" doc:"Who is paid: user_id or wallet"`
			Money  core.Money  `json:"money" doc:"May be a part of what is owed, or more"`
			Method string      `json:"method,omitempty" doc:"cash (the default), transfer, other, or card: then it waits for its payment"`
			Note   string      `json:"note,omitempty" doc:"At most 2,000 characters"`
		}
	}
	register(a, operation{id: "settle", method: http.MethodPost, path: "/groups/{group_id}/settlements", tag: tagExpenses, status: http.StatusCreated,
		summary: "Record that one pays another: either of them, and admins; by card who pays"},
		func(ctx context.Context, in *settleInput) (*SettlementAnswer, error) {
			group, err := groupID(in.Group)
			if err != nil {
				return nil, err
			}
			from, to, err := parties(ctx, in.Body.From, in.Body.To)
			if err != nil {
				return nil, err
			}
			return settlementAnswer(a.Expenses.Settle(ctx, caller(ctx).User, group,
				expenses.Settlement{From: from, To: to, Money: in.Body.Money, Method: in.Body.Method, Note: in.Body.Note}))
		})

	type convertInput struct {
		Group string `path:"group_id"`
		Body  struct {
			From  *MoneyParty `json:"from,omitempty" doc:"Who owes; default: you"`
			To    MoneyParty  `json:"to" doc:"Whom"`
			Money core.Money  `json:"money" doc:"What is not owed any more"`
			Into  string      `json:"into" doc:"The currency in which it is owed instead"`
			Rate  string      `json:"rate" doc:"So many of it for one of the other: a decimal" example:"1.0837"`
			Note  string      `json:"note,omitempty" doc:"At most 2,000 characters"`
		}
	}
	register(a, operation{id: "convert-debt", method: http.MethodPost, path: "/groups/{group_id}/conversions", tag: tagExpenses, status: http.StatusCreated,
		summary: "Make a debt one in another currency, by a rate: either of the two, and admins. It is a settlement of the kind conversion"},
		func(ctx context.Context, in *convertInput) (*SettlementAnswer, error) {
			group, err := groupID(in.Group)
			if err != nil {
				return nil, err
			}
			from, to, err := parties(ctx, in.Body.From, in.Body.To)
			if err != nil {
				return nil, err
			}
			return settlementAnswer(a.Expenses.Convert(ctx, caller(ctx).User, group, expenses.Settlement{
				From: from, To: to, Money: in.Body.Money, Into: core.Money{Currency: core.Currency(in.Body.Into)}, Rate: in.Body.Rate, Note: in.Body.Note,
			}))
		})

	type listSettlementsInput struct {
		Group  string `path:"group_id"`
		Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"200"`
		Cursor string `query:"cursor" doc:"From the Link header of the page before"`
	}
	type listSettlementsOutput struct {
		Link string `header:"Link" doc:"The next page, if there is one"`
		Body struct {
			Settlements []Settlement `json:"settlements" nullable:"false"`
		}
	}
	register(a, operation{id: "list-settlements", method: http.MethodGet, path: "/groups/{group_id}/settlements", tag: tagExpenses, summary: "A group's settlements and conversions, the latest first"},
		func(ctx context.Context, in *listSettlementsInput) (*listSettlementsOutput, error) {
			group, err := groupID(in.Group)
			if err != nil {
				return nil, err
			}
			list, next, err := a.Expenses.Settlements(ctx, caller(ctx).User, group, in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			out := &listSettlementsOutput{Link: nextPage("/groups/"+in.Group+"/settlements", in.Limit, next)}
			out.Body.Settlements = make([]Settlement, len(list))
			for i, s := range list {
				out.Body.Settlements[i] = settlementOf(s)
			}
			return out, nil
		})

	type oneSettlementInput struct {
		Group      string `path:"group_id"`
		Settlement string `path:"settlement_id"`
	}
	register(a, operation{id: "get-settlement", method: http.MethodGet, path: "/groups/{group_id}/settlements/{settlement_id}", tag: tagExpenses, summary: "A settlement or conversion"},
		func(ctx context.Context, in *oneSettlementInput) (*SettlementAnswer, error) {
			group, id, err := groupAnd(in.Group, in.Settlement, expenses.ErrNoSettlement)
			if err != nil {
				return nil, err
			}
			return settlementAnswer(a.Expenses.Settlement(ctx, caller(ctx).User, group, id))
		})
	register(a, operation{id: "undo-settlement", method: http.MethodDelete, path: "/groups/{group_id}/settlements/{settlement_id}", tag: tagExpenses,
		summary: "Take a settlement or conversion back, by a reversal: who recorded it, those two, and admins; what was paid by card is refunded instead"},
		func(ctx context.Context, in *oneSettlementInput) (*SettlementAnswer, error) {
			group, id, err := groupAnd(in.Group, in.Settlement, expenses.ErrNoSettlement)
			if err != nil {
				return nil, err
			}
			return settlementAnswer(a.Expenses.Undo(ctx, caller(ctx).User, group, id))
		})
}
