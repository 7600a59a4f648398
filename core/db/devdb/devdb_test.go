//go:build unix

package devdb

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFresh(t *testing.T) {
	a := Test(t)
	require.NoError(t, a.Ping(t.Context()))
}
