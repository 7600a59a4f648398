package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	neturl "net/url"

	"github.com/mustermesh/muster/internal/node"
)

// CtlAnnounceCmd tells many people something: any process will do.
type CtlAnnounceCmd struct {
	Title string `help:"In one line." required:"" placeholder:"TITLE"`
	Text  string `arg:"" help:"What is to be said; empty lines part paragraphs."`
	Group string `help:"The members of this group only." placeholder:"ID"`
}

// Run announces.
func (a *CtlAnnounceCmd) Run(ctx context.Context, c *CtlCmd) error {
	query := neturl.Values{"title": {a.Title}, "text": {a.Text}}
	if a.Group != "" {
		query.Set("group", a.Group)
	}
	var v node.Announced
	if err := c.call(ctx, http.MethodPost, "announce", query, &v); err != nil {
		return err
	}
	return c.show(v, func(w io.Writer) {
		fmt.Fprintln(w, "on its way; `muster ctl jobs list --state all --kind notify_bulk` says how far it is")
	})
}
