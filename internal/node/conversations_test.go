package node

import (
	"log/slog"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/chat"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/core/location"
	"github.com/mustermesh/muster/core/matching"
)

// What somebody chose about receipts is kept for a while, and read anew once they chose
// otherwise.
func TestChosenIsReadAnew(t *testing.T) {
	d, log, ctx := devdb.Test(t), slog.New(slog.DiscardHandler), t.Context()
	where, err := location.New(d, []byte("0123456789abcdef0123456789abcdef"), location.Config{})
	require.NoError(t, err)
	talks, err := newConversations(&Config{DB: d}, "eu-west", where, &membershipAnnouncer{log: log}, nil, newWork(d, log, nil, nil), log)
	require.NoError(t, err)
	ana := soul{id: core.UserID(uuid.New()), profile: matching.Closed()}
	settle(t, d, []soul{ana}, nil)
	is := func() bool {
		nobody, err := talks.Discreet(ctx, ana.id.String())
		require.NoError(t, err)
		return nobody
	}
	require.False(t, is())
	_, err = talks.SetSettings(ctx, ana.id, chat.Settings{Receipts: chat.Nobody})
	require.NoError(t, err)
	require.False(t, is(), "from memory")
	talks.Chosen(ana.id.String())
	require.True(t, is())
}
