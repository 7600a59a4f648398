package users

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
)

func addUser(t *testing.T, d *db.DB, name string) core.UserID {
	id := core.UserID(uuid.New())
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO users (id, username, username_key, guest, home_region) VALUES ($1, $2, $3, true, 'eu-west')`,
			id, name, strings.ToLower(name))
		return err
	}))
	return id
}

func TestProfile(t *testing.T) {
	d := devdb.Test(t)
	s := New(d, time.Now)
	ana, bob := addUser(t, d, "Ana"), addUser(t, d, "Bob")
	p, err := s.Get(t.Context(), ana)
	require.NoError(t, err)
	require.Equal(t, Profile{ID: ana, Username: "Ana", Guest: true, Settings: map[string]any{}, Subscription: Free}, p)

	name, picture := "Ana Lima", "https://example.org/ana.png"
	p, err = s.Update(t.Context(), ana, Change{Username: &name, Picture: &picture, Settings: map[string]any{"theme": "dark"}})
	require.NoError(t, err)
	want := Profile{ID: ana, Username: name, Guest: true, Picture: picture, Settings: map[string]any{"theme": "dark"}, Subscription: Free}
	require.Equal(t, want, p)

	p, err = s.Update(t.Context(), ana, Change{})
	require.NoError(t, err)
	require.Equal(t, want, p, "what isn't named stays")
	empty := ""
	p, err = s.Update(t.Context(), ana, Change{Picture: &empty, Settings: map[string]any{}})
	require.NoError(t, err)
	require.Empty(t, p.Picture)
	require.Empty(t, p.Settings)

	_, err = s.Update(t.Context(), bob, Change{Username: &name})
	require.ErrorIs(t, err, ErrUsernameTaken)
	upper := "ANA LIMA"
	p, err = s.Update(t.Context(), ana, Change{Username: &upper})
	require.NoError(t, err, "one's own name in other letters")
	require.Equal(t, upper, p.Username)

	bad, http := "x", "http://example.org/ana.png"
	_, err = s.Update(t.Context(), ana, Change{Username: &bad})
	require.ErrorIs(t, err, core.ErrBadUsername)
	_, err = s.Update(t.Context(), ana, Change{Picture: &http})
	require.ErrorIs(t, err, core.ErrBadPicture)
	_, err = s.Update(t.Context(), ana, Change{Settings: map[string]any{"x": strings.Repeat("a", 9000)}})
	require.ErrorIs(t, err, core.ErrBadSettings)
	nobody := core.UserID(uuid.New())
	_, err = s.Get(t.Context(), nobody)
	require.ErrorIs(t, err, ErrNotFound)
	_, err = s.Update(t.Context(), nobody, Change{})
	require.ErrorIs(t, err, ErrNotFound)
}
