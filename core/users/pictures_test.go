package users

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/core/objects"
	"github.com/mustermesh/muster/core/objects/dir"
	"github.com/mustermesh/muster/core/objects/images"
)

const pictureBase = "https://example.org/api/v1/pictures/"

func TestPictures(t *testing.T) {
	d := devdb.Test(t)
	files, err := dir.Open(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, files.Close()) })
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	s, catalog := New(d, clock), objects.NewCatalog(d, files, clock)
	p := NewPictures(s, catalog, pictureBase, images.NewTurn())
	ana, bob := addUser(t, d, "Ana"), addUser(t, d, "Bob")

	set := func(user core.UserID) uuid.UUID {
		t.Helper()
		profile, err := p.Set(t.Context(), user, jpegOf(t, quarters(300, 200)))
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(profile.Picture, pictureBase))
		id, err := uuid.Parse(strings.TrimPrefix(profile.Picture, pictureBase))
		require.NoError(t, err)
		return id
	}
	requireThere := func(id uuid.UUID, there bool) {
		t.Helper()
		now = now.Add(time.Second)
		require.NoError(t, catalog.Sweep(t.Context()))
		for _, size := range append([]int{0}, Sizes[:]...) {
			o, err := p.Get(t.Context(), id, size)
			if !there {
				require.ErrorIs(t, err, objects.ErrNotFound)
				continue
			}
			require.NoError(t, err)
			require.Equal(t, "image/jpeg", o.Type)
			data, err := io.ReadAll(o.Body)
			require.NoError(t, err)
			require.NoError(t, o.Body.Close())
			if size == 0 {
				size = Sizes[0]
			}
			require.Equal(t, "rgbw", reading(t, data, size))
		}
	}
	first, bobs := set(ana), set(bob)
	requireThere(first, true)
	second := set(ana)
	require.NotEqual(t, first, second)
	requireThere(first, false)
	requireThere(second, true)

	same := pictureBase + second.String()
	_, err = s.Update(t.Context(), ana, Change{Picture: &same})
	require.NoError(t, err)
	requireThere(second, true)
	theirs := pictureBase + bobs.String()
	_, err = s.Update(t.Context(), ana, Change{Picture: &theirs})
	require.NoError(t, err)
	requireThere(second, false)
	none := ""
	_, err = s.Update(t.Context(), ana, Change{Picture: &none})
	require.NoError(t, err)
	requireThere(bobs, true)

	_, err = p.Get(t.Context(), bobs, 100)
	require.ErrorIs(t, err, objects.ErrNotFound, "not one of the sizes")
	_, err = p.Set(t.Context(), ana, []byte("no image"))
	require.ErrorIs(t, err, ErrNoImage)
	_, err = p.Set(t.Context(), ana, make([]byte, MaxPicture+1))
	require.ErrorIs(t, err, ErrPictureTooLarge)
	_, err = p.Set(t.Context(), core.UserID(uuid.New()), jpegOf(t, quarters(300, 200)))
	require.Error(t, err, "nobody's")
}

// A picture that was interrupted between its parts is deleted after a while, and
// not before it may be done.
func TestPictureInterrupted(t *testing.T) {
	d := devdb.Test(t)
	files, err := dir.Open(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, files.Close()) })
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	catalog := objects.NewCatalog(d, files, func() time.Time { return now })
	ana := addUser(t, d, "Ana")
	key := pictureKey(uuid.New(), Sizes[0])
	require.NoError(t, catalog.Reserve(t.Context(), ana, kindPicture, key))
	require.NoError(t, catalog.Put(t.Context(), key, strings.NewReader("x"), 1, "image/jpeg"))
	now = now.Add(50 * time.Minute)
	require.NoError(t, catalog.Sweep(t.Context()))
	o, err := catalog.Get(t.Context(), key)
	require.NoError(t, err)
	require.NoError(t, o.Body.Close())
	now = now.Add(50 * time.Minute)
	require.NoError(t, catalog.Sweep(t.Context()))
	_, err = catalog.Get(t.Context(), key)
	require.ErrorIs(t, err, objects.ErrNotFound)
}
