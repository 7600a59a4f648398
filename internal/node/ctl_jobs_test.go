package node

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/core/jobs"
)

func TestOperatorsSeeRetryAndDropDeadJobs(t *testing.T) {
	d := devdb.Test(t)
	n := &Node{cfg: Config{DB: d}}
	n.state.Store(1)
	h := (&control{nodes: func() []*Node { return []*Node{n} }}).handler()
	ask := func(method, what string, out any) (int, string) {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(method, "http://127.0.0.1:9090/ctl/"+what, nil))
		if out != nil {
			require.NoError(t, json.Unmarshal(rec.Body.Bytes(), out), rec.Body.String())
		}
		return rec.Code, rec.Body.String()
	}

	work := newWork(d, n.log, nil, nil)
	work.Handle("letter", jobs.Handler{Do: func(context.Context, jobs.Work) error { return jobs.Permanent(errors.New("no such street")) }})
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		return jobs.Enqueue(ctx, tx, jobs.Job{Kind: "letter", Payload: "secret love"}, jobs.Job{Kind: "letter"}, jobs.Job{Kind: "letter"}, jobs.Job{Kind: "parcel"})
	}))
	require.NoError(t, work.Start(t.Context()))
	t.Cleanup(work.Stop)
	var v JobsView
	require.Eventually(t, func() bool {
		code, _ := ask(http.MethodGet, "jobs?state=dead", &v)
		return code == http.StatusOK && len(v.Jobs) == 3
	}, 20*time.Second, 20*time.Millisecond)
	require.Equal(t, "no such street", v.Jobs[0].Error)
	_, body := ask(http.MethodGet, "jobs", &v)
	require.Len(t, v.Jobs, 4)
	require.NotContains(t, body, "love", "what a job was given is the business of users")

	dead := "jobs?state=dead"
	_, _ = ask(http.MethodGet, dead, &v)
	one := v.Jobs[0].ID.String()
	for what, status := range map[string]int{
		"jobs/drop": http.StatusBadRequest, "jobs/retry": http.StatusBadRequest, "jobs/drop?id=1": http.StatusBadRequest,
		"jobs/drop?id=" + "00000000-0000-4000-8000-000000000000": http.StatusNotFound,
	} {
		code, body := ask(http.MethodPost, what, nil)
		require.Equal(t, status, code, body)
	}
	var changed JobsChanged
	_, _ = ask(http.MethodPost, "jobs/drop?id="+one, &changed)
	require.EqualValues(t, 1, changed.Jobs)
	_, _ = ask(http.MethodPost, "jobs/retry?kind=letter", &changed)
	require.EqualValues(t, 2, changed.Jobs)
	require.Eventually(t, func() bool { _, _ = ask(http.MethodGet, dead, &v); return len(v.Jobs) == 2 }, 20*time.Second, 20*time.Millisecond)
	_, _ = ask(http.MethodPost, "jobs/drop?kind=*", &changed)
	require.EqualValues(t, 2, changed.Jobs)
	_, _ = ask(http.MethodGet, "jobs", &v)
	require.Len(t, v.Jobs, 1)
	require.Equal(t, "parcel", v.Jobs[0].Kind)
}
