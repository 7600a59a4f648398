package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	neturl "net/url"
	"strings"
	"time"

	"github.com/mustermesh/muster/internal/node"
)

type (
	// CtlCallsCmd is about calls: any process will do.
	CtlCallsCmd struct {
		List CtlCallsListCmd `cmd:"" help:"List the calls that go on, the oldest first, and the media servers that have them in the regions of the process."`
		End  CtlCallsEndCmd  `cmd:"" help:"End a call for everybody."`
	}
	// CtlCallsListCmd lists calls.
	CtlCallsListCmd struct{}
	// CtlCallsEndCmd ends a call.
	CtlCallsEndCmd struct {
		ID string `arg:"" help:"The call's id."`
	}
)

// Run lists calls.
func (*CtlCallsListCmd) Run(ctx context.Context, c *CtlCmd) error {
	var v node.CallsView
	if err := c.call(ctx, http.MethodGet, "calls", nil, &v); err != nil {
		return err
	}
	return c.show(v, func(w io.Writer) {
		fmt.Fprintln(w, "ID\tROOM\tTYPE\tSINCE\tLOCKED\tPUSH TO TALK\tHOME\tSFUS")
		for _, x := range v.Calls {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", x.ID, x.Room, x.Type, x.StartedAt.UTC().Format(time.RFC3339), yes(x.Locked), yes(x.PushToTalk), x.Home, strings.Join(x.SFUs, " "))
		}
	})
}

// Run ends a call.
func (x *CtlCallsEndCmd) Run(ctx context.Context, c *CtlCmd) error {
	if err := c.call(ctx, http.MethodPost, "calls/end", neturl.Values{"id": {x.ID}}, &struct{}{}); err != nil {
		return err
	}
	return c.done("%s has ended", x.ID)
}
