package attachments

import (
	"cmp"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/objects"
	"github.com/mustermesh/muster/core/objects/images"
	"github.com/mustermesh/muster/internal/errs"
)

// Limits.
const (
	MaxChunk  = 8 << 20 // bytes that one Append takes
	maxChunks = 2000    // of a file
	maxImage  = 20 << 20
	maxName   = 255 // bytes

	life     = 24 * time.Hour  // of an upload until it is finished, and then until a message has it
	linkLife = 5 * time.Minute // of a link
)

// The failures of uploads and files.
var (
	ErrBadUpload  = errs.New(errs.Invalid, "bad_upload", "an upload has an Upload-Length of 1 or more, and Upload-Metadata as in tus 1.0.0")
	ErrTooLarge   = errs.New(errs.TooLarge, "too_large", "the file is too large")
	ErrChunk      = errs.New(errs.TooLarge, "too_large", "send at most %d MiB at once, and no more than the upload still needs", MaxChunk>>20)
	ErrChunks     = errs.New(errs.TooLarge, "too_many_chunks", "this file came in too many pieces: upload it again in larger ones")
	ErrQuota      = errs.New(errs.TooLarge, "quota_exceeded", "there is no room for another file of yours: delete messages with files, or choose a plan with more room")
	ErrOpen       = errs.New(errs.RateLimited, "too_many_uploads", "too many uploads are not finished: finish or delete one").After(time.Minute)
	ErrOffset     = errs.New(errs.Conflict, "upload_offset", "the upload is at another offset: ask for it, and go on from there")
	ErrNoUpload   = errs.New(errs.NotFound, "upload_not_found", "there is no such upload of yours, or not any more")
	ErrType       = errs.New(errs.Invalid, "file_type_refused", "files of this type are not taken: send images, video, sound, PDF, ZIP or plain text")
	ErrImage      = errs.New(errs.Invalid, "bad_image", "this image is broken, or has more than %d MiB or %d million pixels", maxImage>>20, maxPixels/1_000_000)
	ErrAttachment = errs.New(errs.Invalid, "attachment_not_found", "an attachment is not a finished upload of yours, or is in a message already").At("body.attachments")
	ErrNoFile     = errs.New(errs.NotFound, "file_not_found", "this file is not here, or not any more; a link ends after minutes: ask for another")
)

// Config is what is optional about a Store; its zero value works.
type Config struct {
	MaxFile int64 // bytes, default 100 MiB
	MaxOpen int   // unfinished uploads of a user, default 20
	MaxKept int64 // bytes of a user's files, default 2 GiB
	// Quota is what a user has instead of MaxKept, for what they pay; nil: nothing.
	Quota func(ctx context.Context, user core.UserID) (int64, error)

	Base string           // of links, such as https://app.example.org; default: a path
	Turn *images.Turn     // default: its own
	Now  func() time.Time // default time.Now
}

// Store has uploads and files. It is safe for concurrent use, on many nodes.
type Store struct {
	db      *db.DB
	catalog *objects.Catalog
	cfg     Config
	link    []byte // key of links
	now     func() time.Time
}

// New returns a Store. The secret is the deployment's, of at least 32 bytes.
func New(d *db.DB, c *objects.Catalog, secret []byte, cfg Config) (*Store, error) {
	link, err := hkdf.Key(sha256.New, secret, nil, "muster file links", 32)
	if err != nil {
		return nil, fmt.Errorf("attachments: derive key: %w", err)
	}
	cfg.MaxFile = cmp.Or(cfg.MaxFile, 100<<20)
	cfg.MaxOpen = cmp.Or(cfg.MaxOpen, 20)
	cfg.MaxKept = cmp.Or(cfg.MaxKept, 2<<30)
	if cfg.Turn == nil {
		cfg.Turn = images.NewTurn()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Store{db: d, catalog: c, cfg: cfg, link: link, now: func() time.Time { return cfg.Now().UTC().Truncate(time.Microsecond) }}, nil
}

// MaxFile is how many bytes a file has at most.
func (s *Store) MaxFile() int64 { return s.cfg.MaxFile }

// Attachment is a file of a message.
type Attachment struct {
	ID            uuid.UUID
	Name          string
	Type          string // media type, by its content
	Size          int64  // bytes
	Width, Height int    // pixels of an image, else 0
	Thumbnail     bool
}

// Attach gives a sender's finished uploads to a message of a room, in its
// transaction. What is another's, unfinished or in a message already is ErrAttachment.
func (s *Store) Attach(ctx context.Context, tx pgx.Tx, sender core.UserID, room string, ids []uuid.UUID) ([]Attachment, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	rows, err := tx.Query(ctx, `UPDATE attachments SET room = $3, expires_at = NULL
		WHERE id = ANY($2) AND user_id = $1 AND room = '' AND finished_at IS NOT NULL AND expires_at > $4
		RETURNING id, name, type, size, width, height, thumbnail <> ''`, sender, ids, room, s.now())
	if err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	found := map[uuid.UUID]Attachment{}
	var a Attachment
	if _, err := pgx.ForEachRow(rows, []any{&a.ID, &a.Name, &a.Type, &a.Size, &a.Width, &a.Height, &a.Thumbnail}, func() error {
		found[a.ID] = a
		return nil
	}); err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	if len(found) != len(ids) { // one that is there twice is one too few
		return nil, ErrAttachment
	}
	keys, err := keysOf(ctx, tx, ids)
	if err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	if err := s.catalog.Keep(ctx, tx, time.Time{}, keys...); errors.Is(err, objects.ErrNotFound) {
		return nil, ErrAttachment
	} else if err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	list := make([]Attachment, len(ids))
	for i, id := range ids {
		list[i] = found[id]
	}
	return list, nil
}

// Detach deletes files with their message, in the transaction that deletes it.
func (s *Store) Detach(ctx context.Context, tx pgx.Tx, ids []uuid.UUID) error {
	if len(ids) == 0 {
		return nil
	}
	if err := s.remove(ctx, tx, ids); err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	return nil
}

// remove deletes files and what they are made of.
func (s *Store) remove(ctx context.Context, tx pgx.Tx, ids []uuid.UUID) error {
	keys, err := keysOf(ctx, tx, ids)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM attachments WHERE id = ANY($1)`, ids); err != nil {
		return err
	}
	return s.catalog.Drop(ctx, tx, keys...)
}

// keysOf returns the objects of files.
func keysOf(ctx context.Context, q db.Querier, ids []uuid.UUID) ([]string, error) {
	rows, err := q.Query(ctx, `SELECT key FROM attachment_chunks WHERE attachment_id = ANY($1)
		UNION ALL SELECT thumbnail FROM attachments WHERE id = ANY($1) AND thumbnail <> ''`, ids)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// Sweep deletes the uploads that nobody finished, and those that no message has, or
// none any more because its group is gone.
func (s *Store) Sweep(ctx context.Context) error {
	for more := true; more; {
		err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.Query(ctx, `SELECT id FROM attachments WHERE expires_at <= $1 ORDER BY id LIMIT $2`, s.now(), swept)
			if err != nil {
				return err
			}
			ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
			if more = len(ids) == swept; err != nil || len(ids) == 0 {
				return err
			}
			return s.remove(ctx, tx, ids)
		})
		if err != nil {
			return fmt.Errorf("sweep uploads: %w", err)
		}
	}
	return nil
}

const swept = 100 // at a time
