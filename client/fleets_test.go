package client

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFleetTokens(t *testing.T) {
	var exchanged atomic.Int32
	life := time.Hour
	release := make(chan struct{}, 100)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/fleets/token", func(w http.ResponseWriter, r *http.Request) {
		<-release
		var in struct{ Key string }
		_ = json.NewDecoder(r.Body).Decode(&in)
		if in.Key != "mfk_good" || r.Header.Get("Authorization") != "" {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"code":"key_invalid"}`))
			return
		}
		exchanged.Add(1)
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": tokenFor(t, life), "expires_in": 900, "fleet_id": "f"})
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	api := NewAPI(server.URL, APIConfig{})
	tokens := NewFleetTokens(api, "mfk_good")
	require.Empty(t, tokens.Fleet())

	// Whoever asks at the same time shares one exchange, or what came of it.
	var all sync.WaitGroup
	got := make([]string, 8)
	for i := range got {
		all.Go(func() { got[i], _ = tokens.Token(t.Context(), "") })
	}
	release <- struct{}{}
	all.Wait()
	require.EqualValues(t, 1, exchanged.Load())
	for _, token := range got {
		require.Equal(t, got[0], token)
		require.NotEmpty(t, token)
	}
	require.Equal(t, "f", tokens.Fleet())

	// A token that was refused, or that ends soon, is traded for.
	life = 2 * time.Hour
	release <- struct{}{}
	next, err := tokens.Token(t.Context(), got[0])
	require.NoError(t, err)
	require.NotEqual(t, got[0], next)
	again, err := tokens.Token(t.Context(), got[0])
	require.NoError(t, err)
	require.Equal(t, next, again)
	life = 5 * time.Second
	release <- struct{}{}
	short, err := tokens.Token(t.Context(), next)
	require.NoError(t, err)
	life = time.Hour
	release <- struct{}{}
	last, err := tokens.Token(t.Context(), "")
	require.NoError(t, err)
	require.NotEqual(t, short, last)

	release <- struct{}{}
	_, err = NewFleetTokens(api, "mfk_revoked").Token(t.Context(), "")
	require.True(t, IsCode(err, "key_invalid"), err)
	require.True(t, (&renewal{err}).forGood(), "a session does not try again with a key that was revoked")
}
