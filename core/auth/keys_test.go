package auth

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
)

func testRing(t *testing.T, d *db.DB, c *clock, secret string) *ring {
	r, err := newRing(d, []byte(secret), RingConfig{}, 15*time.Minute+leeway+LogoutGrace, c.now, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return r
}

const testSecret = "0123456789abcdef0123456789abcdef"

// RFC 8037 appendix A.3 gives the thumbprint of its example key.
func TestThumbprint(t *testing.T) {
	public, err := hex.DecodeString("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
	require.NoError(t, err)
	require.Equal(t, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", thumbprint(ed25519.PublicKey(public)))
}

// A key's whole life: no token is ever refused because of rotation.
func TestRotation(t *testing.T) {
	d := devdb.Test(t)
	c := newClock()
	r := testRing(t, d, c, testSecret)
	require.NoError(t, r.rotate(t.Context()))
	v := NewVerifier(r, VerifierConfig{Now: c.now})
	require.NoError(t, v.Refresh(t.Context()))

	kids := map[string]bool{}
	type issued struct {
		token   string
		expires time.Time
	}
	var tokens []issued
	// Three lives of a key, six hours at a time.
	const step = 6 * time.Hour
	for range 3 * 30 * 4 {
		c.advance(step)
		require.NoError(t, r.rotate(t.Context()))
		require.NoError(t, v.Refresh(t.Context()))
		k, ok := pickSigner(r.keys, c.now(), r.cfg.Publish)
		require.True(t, ok)
		kids[k.id] = true
		require.LessOrEqual(t, len(r.keys), 3)
		id := Identity{User: core.UserID(uuid.New()), Login: core.LoginID(uuid.New()), Expires: c.now().Add(15 * time.Minute)}
		token, err := r.sign(t.Context(), "muster", "muster", id, c.now())
		require.NoError(t, err)
		tokens = append(tokens, issued{token, id.Expires})
		for _, tok := range tokens {
			_, err := v.verify(t.Context(), tok.token, LogoutGrace)
			require.NoError(t, err)
		}
		for len(tokens) > 0 && c.now().Add(step).After(tokens[0].expires.Add(LogoutGrace)) {
			tokens = tokens[1:]
		}
	}
	require.Len(t, kids, 4, "a successor every 28 days")
}

// The public part is out well before the first signature by the key.
func TestNewKeyWaitsUntilItIsPublished(t *testing.T) {
	d := devdb.Test(t)
	c := newClock()
	r := testRing(t, d, c, testSecret)
	require.NoError(t, r.rotate(t.Context()))
	first := r.keys[0].id
	c.advance(r.cfg.Life - r.cfg.Ahead)
	require.NoError(t, r.rotate(t.Context()))
	require.Len(t, r.keys, 2)
	public, err := r.PublicKeys(t.Context())
	require.NoError(t, err)
	require.Len(t, public, 2)
	k, _ := pickSigner(r.keys, c.now(), r.cfg.Publish)
	require.Equal(t, first, k.id)
	c.advance(r.cfg.Publish)
	k, _ = pickSigner(r.keys, c.now(), r.cfg.Publish)
	require.NotEqual(t, first, k.id)
}

func TestNodesAgreeOnOneKey(t *testing.T) {
	d := devdb.Test(t)
	c := newClock()
	rings := make([]*ring, 6)
	var wg sync.WaitGroup
	for i := range rings {
		rings[i] = testRing(t, d, c, testSecret)
		wg.Go(func() {
			if err := rings[i].rotate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, r := range rings {
		require.Len(t, r.keys, 1)
		require.Equal(t, rings[0].keys[0].id, r.keys[0].id)
	}
	require.Error(t, func() error {
		_, err := newRing(d, []byte("short"), RingConfig{}, time.Hour, c.now, nil)
		return err
	}())
}

// Another node secret can't open the private part, but goes on: the old key
// verifies, a new one signs.
func TestChangedSecret(t *testing.T) {
	d := devdb.Test(t)
	c := newClock()
	before := testRing(t, d, c, testSecret)
	require.NoError(t, before.rotate(t.Context()))
	token, err := before.sign(t.Context(), "muster", "muster", testIdentity(c), c.now())
	require.NoError(t, err)

	after := testRing(t, d, c, "another secret, also of 32 bytes!!")
	c.advance(time.Minute)
	require.NoError(t, after.rotate(t.Context()))
	require.Len(t, after.keys, 2)
	_, err = after.sign(t.Context(), "muster", "muster", testIdentity(c), c.now())
	require.NoError(t, err)
	v := NewVerifier(after, VerifierConfig{Now: c.now})
	_, err = v.Verify(t.Context(), token)
	require.NoError(t, err)
}

func TestPrivateKeyIsSealed(t *testing.T) {
	d := devdb.Test(t)
	r := testRing(t, d, newClock(), testSecret)
	require.NoError(t, r.rotate(t.Context()))
	var stored []byte
	require.NoError(t, d.Read(t.Context(), scan(&stored, `SELECT private_key FROM signing_keys`)))
	require.False(t, bytes.Contains(stored, r.keys[0].private.Seed()))
	_, err := r.seal.Open(nil, nil, stored, []byte("other kid"))
	require.Error(t, err, "a sealed key can't be put under another name")
}
