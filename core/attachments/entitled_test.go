package attachments

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
)

func TestQuotaByThePlan(t *testing.T) {
	quota := int64(10)
	b := setup(t, nil, Config{Quota: func(context.Context, core.UserID) (int64, error) { return quota, nil }})
	_, err := b.here.Create(t.Context(), b.ana, 6, "")
	require.NoError(t, err)
	_, err = b.here.Create(t.Context(), b.ana, 5, "")
	require.ErrorIs(t, err, ErrQuota)
	quota = 11
	_, err = b.here.Create(t.Context(), b.ana, 5, "")
	require.NoError(t, err)
}
