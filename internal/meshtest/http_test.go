package meshtest

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/client"
)

// post sends a message over HTTP.
func (u *User) post(ctx context.Context, group, clientID, body string) error {
	return u.postTo(ctx, u.mesh.API, group, clientID, body)
}

func (u *User) postTo(ctx context.Context, api, group, clientID, body string) error {
	res, err := u.postRaw(ctx, api, group, clientID, body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusCreated {
		return fmt.Errorf("status %s", res.Status)
	}
	return nil
}

func (u *User) postRaw(ctx context.Context, api, group, clientID, body string) (*http.Response, error) {
	token, err := u.Token(ctx, "")
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, api+"/api/v1/groups/"+group+"/messages",
		strings.NewReader(fmt.Sprintf(`{"client_id": %q, "body": %q}`, clientID, body)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	return http.DefaultClient.Do(req)
}

// Whoever sends over HTTP and hangs up before the answer may have sent, and
// then the room hears it.
func TestAMessageWhoseSenderHungUp(t *testing.T) {
	m := Start(t, 2, 2)
	ana, bo := m.Guest(0, "Ana").Connect(0, 1, client.Auto), m.Guest(1, "Bo").Connect(1, 0, client.Auto)
	group := m.Group(ana, bo)
	rooms := []*client.Room{ana.Join(group), bo.Join(group)}
	require.NoError(t, ana.post(t.Context(), group, "a", "first"))
	for _, r := range rooms {
		m.Eventually("heard", func() bool { return fmt.Sprint(bodies(r)) == "[first]" })
	}

	err := m.DB.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		// Nobody can store while this lasts.
		if _, err := tx.Exec(ctx, `SELECT 1 FROM rooms WHERE room = $1 FOR UPDATE`, client.GroupRoom(group)); err != nil {
			return err
		}
		short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, ana.post(short, group, "b", "second"), context.DeadlineExceeded)
		<-time.After(100 * time.Millisecond) // the server has noticed
		return nil
	})
	require.NoError(t, err)
	for _, r := range rooms {
		m.Eventually("heard though the sender has gone", func() bool { return fmt.Sprint(bodies(r)) == "[first second]" })
	}
	require.NoError(t, ana.post(t.Context(), group, "b", "second"), "said again")
	require.NoError(t, ana.post(t.Context(), group, "c", "third"))
	for _, r := range rooms {
		m.Eventually("once", func() bool { return fmt.Sprint(bodies(r)) == "[first second third]" })
	}
}
