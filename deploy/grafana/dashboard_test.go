package grafana

import (
	"flag"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

var rewrite = flag.Bool("rewrite", false, "write muster.json")

func TestDashboard(t *testing.T) {
	want, err := Dashboard()
	require.NoError(t, err)
	if *rewrite {
		require.NoError(t, os.WriteFile("muster.json", want, 0o644))
	}
	got, err := os.ReadFile("muster.json")
	require.NoError(t, err)
	require.Equal(t, string(want), string(got), "go test ./deploy/grafana -rewrite")
}
