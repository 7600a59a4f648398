package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/internal/node"
)

// All pages are asked for, and a fault in any of them is a failure.
func TestCtlLedgerVerify(t *testing.T) {
	pages := map[string]node.LedgerView{
		"":        {Books: []node.LedgerBook{{Book: "group:a", Seq: 1}}, Next: "group:a"},
		"group:a": {Books: []node.LedgerBook{{Book: "group:b", Seq: 2}}},
	}
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path+"?"+r.URL.RawQuery)
		_ = json.NewEncoder(w).Encode(pages[r.FormValue("after")])
	}))
	defer srv.Close()
	c := &CtlCmd{Admin: srv.URL}
	require.NoError(t, (&CtlLedgerVerifyCmd{}).Run(t.Context(), c))
	require.NoError(t, (&CtlLedgerVerifyCmd{Book: "group:b"}).Run(t.Context(), &CtlCmd{Admin: srv.URL}))
	require.Equal(t, []string{"/ctl/ledger/verify?after=", "/ctl/ledger/verify?after=group%3Aa", "/ctl/ledger/verify?book=group%3Ab"}, asked[:3])

	v := pages["group:a"]
	v.Faults = []node.LedgerFault{{Book: "group:b", Seq: 1, What: "was changed"}}
	pages["group:a"] = v
	require.ErrorContains(t, (&CtlLedgerVerifyCmd{}).Run(t.Context(), c), "1 faults")
}
