package users

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/objects"
	"github.com/mustermesh/muster/core/objects/images"
	"github.com/mustermesh/muster/internal/errs"
)

// ErrPictureTooLarge is for a picture of more than MaxPicture bytes.
var ErrPictureTooLarge = errs.New(errs.TooLarge, "too_large", "a picture has at most %d MiB", MaxPicture>>20).At("body")

// kindPicture is what the catalog of objects calls them.
const kindPicture = "picture"

// Pictures are those that users upload. It is safe for concurrent use.
type Pictures struct {
	store   *Store
	catalog *objects.Catalog
	base    string
	turn    *images.Turn
}

// NewPictures returns the pictures of a store's users. base is where they are
// served, up to their id, such as https://app.example.org/api/v1/pictures/; turn is
// that of all on the node who decode images.
func NewPictures(s *Store, c *objects.Catalog, base string, turn *images.Turn) *Pictures {
	p := &Pictures{store: s, catalog: c, base: base, turn: turn}
	s.pictures = p
	return p
}

// Set makes an uploaded image the user's picture. The one before is deleted.
func (p *Pictures) Set(ctx context.Context, user core.UserID, data []byte) (Profile, error) {
	if len(data) > MaxPicture {
		return Profile{}, ErrPictureTooLarge
	}
	var made [len(Sizes)][]byte
	err := p.turn.Do(ctx, func() (err error) {
		made, err = squares(data)
		return err
	})
	if err != nil {
		return Profile{}, err
	}
	id := uuid.New() // never used again, so what is at an URL never changes
	var keys []string
	for _, size := range Sizes {
		keys = append(keys, pictureKey(id, size))
	}
	if err := p.catalog.Reserve(ctx, user, kindPicture, keys...); err != nil {
		return Profile{}, err
	}
	for i, image := range made {
		if err := p.catalog.Put(ctx, keys[i], bytes.NewReader(image), int64(len(image)), "image/jpeg"); err != nil {
			return Profile{}, err
		}
	}
	var profile Profile
	err = p.store.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE users SET profile_picture = $2, updated_at = $3 WHERE id = $1 AND deleted_at IS NULL`,
			user, p.base+id.String(), p.store.now())
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return ErrNotFound
		}
		if err := p.catalog.Release(ctx, tx, user, kindPicture, keys...); err != nil {
			return err
		}
		if err := p.catalog.Keep(ctx, tx, time.Time{}, keys...); err != nil {
			return err
		}
		if err := p.store.changed(ctx, tx, user); err != nil {
			return err
		}
		profile, err = p.store.get(ctx, tx, user)
		return err
	})
	if err != nil {
		return Profile{}, fmt.Errorf("set picture: %w", err)
	}
	return profile, nil
}

// Get opens a picture in one of Sizes; 0 stands for the one that profiles show.
func (p *Pictures) Get(ctx context.Context, id uuid.UUID, size int) (objects.Object, error) {
	if size == 0 {
		size = Sizes[0]
	}
	return p.catalog.Get(ctx, pictureKey(id, size))
}

func pictureKey(id uuid.UUID, size int) string { return fmt.Sprintf("pictures/%s/%d.jpg", id, size) }

// own reports whether a URL is of an uploaded picture. On a machine of one's own it
// begins with http, and without a name of the deployment it is only a path.
func (p *Pictures) own(url string) bool {
	_, ok := p.uploaded(url)
	return ok
}

func (p *Pictures) uploaded(url string) (uuid.UUID, bool) {
	if p == nil {
		return uuid.UUID{}, false
	}
	s, ok := strings.CutPrefix(url, p.base)
	id, err := uuid.Parse(s)
	return id, ok && err == nil && id.String() == s
}

// replaced releases what a user uploaded, unless it is at the URL that their
// profile has now.
func (p *Pictures) replaced(ctx context.Context, tx pgx.Tx, user core.UserID, url string) error {
	if p == nil {
		return nil
	}
	keep := []string{}
	if id, ok := p.uploaded(url); ok {
		for _, size := range Sizes {
			keep = append(keep, pictureKey(id, size))
		}
	}
	return p.catalog.Release(ctx, tx, user, kindPicture, keep...)
}
