package node

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOpenObjects(t *testing.T) {
	store, end, err := openObjects(t.Context(), t.TempDir())
	require.NoError(t, err)
	require.NotNil(t, store)
	end()
	end()
	_, _, err = openObjects(t.Context(), "ftp://example.org")
	require.ErrorContains(t, err, "write s3://bucket")
}
