package auth

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/auth/hashers"
)

// cheap keeps the tests quick; TestOWASPDefaults pins the real cost.
var cheap = HashConfig{MemoryKiB: 64, Passes: 1}

func TestHashAndVerify(t *testing.T) {
	h := newHasher(cheap)
	phc, err := h.hash(t.Context(), "correct horse")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(phc, "$argon2id$v=19$m=64,t=1,p=1$"), phc)
	again, err := h.hash(t.Context(), "correct horse")
	require.NoError(t, err)
	require.NotEqual(t, phc, again, "salted")

	ok, outdated, err := h.verify(t.Context(), phc, "correct horse")
	require.NoError(t, err)
	require.True(t, ok)
	require.False(t, outdated)
	ok, _, err = h.verify(t.Context(), phc, "wrong horse")
	require.NoError(t, err)
	require.False(t, ok)

	// The same hash under dearer parameters: still good, to be renewed.
	ok, outdated, err = newHasher(HashConfig{MemoryKiB: 128, Passes: 1}).verify(t.Context(), phc, "correct horse")
	require.NoError(t, err)
	require.True(t, ok)
	require.True(t, outdated)
}

// Where there are processes for it, hashes are computed there, and the same.
func TestHashElsewhere(t *testing.T) {
	asked := 0
	elsewhere := cheap
	elsewhere.Elsewhere = func(_ context.Context, password, salt []byte, c hashers.Cost) ([]byte, error) {
		asked++
		return hashers.Here(password, salt, c), nil
	}
	h := newHasher(elsewhere)
	phc, err := h.hash(t.Context(), "correct horse")
	require.NoError(t, err)
	ok, _, err := newHasher(cheap).verify(t.Context(), phc, "correct horse")
	require.NoError(t, err)
	require.True(t, ok)
	ok, _, err = h.verify(t.Context(), "", "correct horse")
	require.NoError(t, err)
	require.False(t, ok)
	require.Equal(t, 2, asked, "for nobody, too")
}

func TestOWASPDefaults(t *testing.T) {
	phc, err := newHasher(HashConfig{}).hash(t.Context(), "correct horse")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(phc, "$argon2id$v=19$m=19456,t=2,p=1$"), phc)
}

func TestNobodyIsNeverRight(t *testing.T) {
	h := newHasher(cheap)
	for _, password := range []string{"", "correct horse", strings.Repeat("\x00", 32)} {
		ok, _, err := h.verify(t.Context(), "", password)
		require.NoError(t, err)
		require.False(t, ok)
	}
}

func TestTamperedHashesAreRefused(t *testing.T) {
	h := newHasher(cheap)
	for _, stored := range []string{
		"x", "$argon2id$", "$argon2i$v=19$m=64,t=1,p=1$AAAAAAAAAAA$AAAA",
		"$argon2id$v=19$m=4294967295,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$" + strings.Repeat("A", 43),
		"$argon2id$v=19$m=64,t=0,p=1$AAAAAAAAAAAAAAAAAAAAAA$" + strings.Repeat("A", 43),
		"$argon2id$v=19$m=64,t=1,p=0$AAAAAAAAAAAAAAAAAAAAAA$" + strings.Repeat("A", 43),
		"$argon2id$v=16$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$" + strings.Repeat("A", 43),
	} {
		_, _, err := h.verify(t.Context(), stored, "correct horse")
		require.Error(t, err, stored)
	}
}

func TestPasswordRules(t *testing.T) {
	for _, bad := range []string{"", "1234567", strings.Repeat("x", 257), "with\nnewline", "nul\x00inside", "\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8"} {
		_, err := checkPassword(bad)
		require.ErrorIs(t, err, ErrBadPassword, "%q", bad)
	}
	a, err := checkPassword("caf\u00e9 au lait")
	require.NoError(t, err)
	b, err := checkPassword("cafe\u0301 au lait")
	require.NoError(t, err)
	require.Equal(t, a, b, "the same letters, typed on two systems")
}

// A storm of logins takes no more memory than Parallel hashes, and what can't
// even wait is turned away at once.
func TestStormIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHasher(HashConfig{MemoryKiB: 64, Passes: 1, Parallel: 1, Waiting: 2})
		h.running <- struct{}{} // somebody is computing, for ever
		h.admitted <- struct{}{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		errs := make(chan error, 10)
		for range 10 {
			wg.Go(func() {
				_, err := h.hash(ctx, "correct horse")
				errs <- err
			})
		}
		wg.Wait()
		close(errs)
		busy, late := 0, 0
		for err := range errs {
			switch {
			case errors.Is(err, errBusy):
				busy++
			case errors.Is(err, context.DeadlineExceeded):
				late++
			}
		}
		require.Equal(t, 8, busy)
		require.Equal(t, 2, late)
	})
}
