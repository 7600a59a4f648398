package node

import (
	"context"
	"net/http"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/notify"
	"github.com/mustermesh/muster/internal/errs"
)

// Announced is a notification for many, on its way.
type Announced struct {
	ID string `json:"id"`
}

// announce tells all users, or the members of ?group=, something: ?title= and
// ?text=. The jobs of the kind notify_bulk say how far it is.
func (c *control) announce(r *http.Request) (*Announced, error) {
	to := notify.Everyone()
	if s := r.FormValue("group"); s != "" {
		group, err := core.ParseGroupID(s)
		if err != nil {
			return nil, errs.New(errs.Invalid, "invalid_group", "a group's id is a UUID in lower case")
		}
		to = notify.Members(group)
	}
	title, titled := core.CleanText(r.FormValue("title"), 1, 120, false)
	text, texted := core.CleanText(strings.ReplaceAll(r.FormValue("text"), "\r\n", "\n"), 1, 4000, true)
	if !titled || !texted {
		return nil, errs.New(errs.Invalid, "invalid_announcement", "a title has up to 120 characters, a text up to 4,000")
	}
	for _, n := range c.nodes() {
		if !n.running() {
			continue
		}
		ctx, cancel := context.WithTimeout(r.Context(), ctlWait)
		defer cancel()
		var a Announced
		err := n.cfg.DB.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			id, err := n.told.Bulk(ctx, tx, notify.Announcement, map[string]any{"title": title, "text": text}, to)
			a.ID = id.String()
			return err
		})
		return &a, err
	}
	return nil, errNoNode
}
