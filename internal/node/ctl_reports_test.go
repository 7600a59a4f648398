package node

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/core/ratings"
	"github.com/mustermesh/muster/core/reports"
	"github.com/mustermesh/muster/core/users"
)

// whatever is seen by everybody.
type whatever struct{}

func (whatever) See(_ context.Context, _ core.UserID, s reports.Subject) (reports.Seen, error) {
	return reports.Seen{User: s.User, Evidence: map[string]any{"username": "Bob"}}, nil
}

func TestOperatorsLookAtReportsAndVerifyRatings(t *testing.T) {
	d := devdb.Test(t)
	ana, bob := core.UserID(uuid.New()), core.UserID(uuid.New())
	exec := func(sql string, args ...any) {
		require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, sql, args...)
			return err
		}))
	}
	for name, id := range map[string]core.UserID{"ana": ana, "bob": bob} {
		exec(`INSERT INTO users (id, username, username_key, guest, home_region) VALUES ($1, $2, $2, true, 'eu-west')`, id, name)
	}
	filed, err := reports.New(d, []byte("0123456789abcdef0123456789abcdef"), whatever{}, reports.Config{})
	require.NoError(t, err)
	n := &Node{cfg: Config{DB: d}, reports: filed, ratings: ratings.New(d, users.New(d, time.Now), ratings.Config{})}
	n.state.Store(1)
	h := (&control{nodes: func() []*Node { return []*Node{n} }}).handler()
	ask := func(method, what string, out any) int {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(method, "http://127.0.0.1:9090/ctl/"+what, nil))
		if out != nil {
			require.NoError(t, json.Unmarshal(rec.Body.Bytes(), out), rec.Body.String())
		}
		return rec.Code
	}

	id, err := filed.File(t.Context(), ana, reports.Subject{User: bob}, "spam", "sells things")
	require.NoError(t, err)
	var v ReportsView
	require.Equal(t, http.StatusOK, ask(http.MethodGet, "reports", &v))
	require.Len(t, v.Reports, 1)
	require.Equal(t, "sells things", v.Reports[0].Text)
	require.JSONEq(t, `{"username":"Bob"}`, string(v.Reports[0].Evidence))
	for what, status := range map[string]int{
		"reports/close?id=x&outcome=y": http.StatusBadRequest, "reports/close?id=" + id.String(): http.StatusBadRequest,
		"reports/close?outcome=y&id=" + uuid.NewString(): http.StatusNotFound,
	} {
		require.Equal(t, status, ask(http.MethodPost, what, nil), what)
	}
	require.Equal(t, http.StatusOK, ask(http.MethodPost, "reports/close?outcome=warned&id="+id.String(), nil))
	require.Equal(t, http.StatusOK, ask(http.MethodGet, "reports?state=open", &v))
	require.Empty(t, v.Reports)
	require.Equal(t, http.StatusOK, ask(http.MethodGet, "reports?state=closed", &v))
	require.Equal(t, "warned", v.Reports[0].Outcome)
	require.Equal(t, http.StatusBadRequest, ask(http.MethodGet, "reports?state=x", nil))

	var r RatingsView
	require.Equal(t, http.StatusOK, ask(http.MethodGet, "ratings/verify", &r))
	require.Equal(t, RatingsView{Users: 2, Wrong: []WrongRating{}}, r)
	exec(`UPDATE users SET rating_sum = 5, rating_count = 1 WHERE id = $1`, bob)
	require.Equal(t, http.StatusOK, ask(http.MethodGet, "ratings/verify", &r))
	require.Equal(t, []WrongRating{{User: bob.String(), KeptSum: 5, KeptCount: 1}}, r.Wrong)
}
