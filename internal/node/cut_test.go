package node

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/internal/simnet"
	"github.com/mustermesh/muster/regions"
)

func TestCutAndHeal(t *testing.T) {
	s := &severance{network: simnet.New(simnet.Config{}), regions: func() []regions.RegionID { return []regions.RegionID{"eu", "us", "ap"} }}
	none := func() []*Node { return nil }
	h := (&control{nodes: none, gather: prometheus.NewRegistry(), links: s}).handler()
	post := func(h http.Handler, what string) int {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "http://127.0.0.1:9090/ctl/"+what, nil))
		return rec.Code
	}

	require.Equal(t, http.StatusOK, post(h, "cut?region=us"))
	require.Equal(t, []string{"eu", "ap"}, s.from("us"))
	require.Equal(t, []string{"us"}, s.from("eu"), "both ways")
	require.Equal(t, http.StatusOK, post(h, "heal?region=us&other=eu"))
	require.Equal(t, []string{"ap"}, s.from("us"))
	require.Empty(t, s.from("eu"))
	require.Equal(t, http.StatusOK, post(h, "heal?region=us"))
	require.Empty(t, s.from("ap"))

	require.Equal(t, http.StatusNotFound, post(h, "cut?region=mars"))
	require.Equal(t, http.StatusNotFound, post(h, "cut?region=us&other=us"))
	require.Equal(t, http.StatusNotFound, post((&control{nodes: none, gather: prometheus.NewRegistry()}).handler(), "cut?region=us"), "not outside of dev")
}
