package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

func tokenFor(t *testing.T, life time.Duration) string {
	t.Helper()
	s, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"exp": time.Now().Add(life).Unix()}).SignedString([]byte("k"))
	require.NoError(t, err)
	return s
}

// A refresh that ends after a sign-out, or after somebody else signed in, does
// not bring the old login back.
func TestRefreshDoesNotUndoASignOut(t *testing.T) {
	for name, then := range map[string]Credentials{
		"signed out": {}, "somebody else": {UserID: "u2", Token: "theirs", RefreshToken: "r9"},
	} {
		t.Run(name, func(t *testing.T) {
			var api *API
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				api.keep(then)
				_ = json.NewEncoder(w).Encode(map[string]string{"token": "new", "refresh_token": "r2"})
			}))
			t.Cleanup(server.Close)
			api = NewAPI(server.URL, APIConfig{Credentials: Credentials{UserID: "u1", Token: "old", RefreshToken: "r1"}})
			err := api.Refresh(t.Context())
			refused, ok := errorsAs(err)
			require.True(t, ok, err)
			require.Equal(t, http.StatusUnauthorized, refused.Status)
			require.Equal(t, then, api.Credentials())
		})
	}
}

// A device that slept for days can still sign out: its token is renewed first.
func TestLogoutAfterALongTime(t *testing.T) {
	fresh := tokenFor(t, time.Hour)
	var ended string
	mux := http.NewServeMux()
	mux.HandleFunc("/api/v1/auth/logout", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+fresh {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"code":"token_expired"}`))
			return
		}
		ended = fresh
		_, _ = w.Write([]byte(`{"success":true}`))
	})
	mux.HandleFunc("/api/v1/auth/refresh", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"token": fresh, "refresh_token": "r2"})
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	api := NewAPI(server.URL, APIConfig{Credentials: Credentials{UserID: "u1", Token: tokenFor(t, -48*time.Hour), RefreshToken: "r1"}})
	require.NoError(t, api.Logout(context.Background()))
	require.Equal(t, fresh, ended)
	require.Zero(t, api.Credentials())
}
