package attachments

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
)

// Upload is a file on its way, or one that is there and in no message yet.
type Upload struct {
	ID       uuid.UUID
	Name     string
	Length   int64  // bytes of all of it
	Offset   int64  // of them are there
	Type     string // of what is finished
	Finished bool
	Expires  time.Time
}

// kind is what the catalog of objects calls them.
const kind = "attachment"

// Create begins an upload. Metadata is what the Upload-Metadata header says.
func (s *Store) Create(ctx context.Context, user core.UserID, length int64, metadata string) (Upload, error) {
	meta, err := ParseMetadata(metadata)
	switch {
	case err != nil:
		return Upload{}, err
	case length < 1:
		return Upload{}, ErrBadUpload
	case length > s.cfg.MaxFile:
		return Upload{}, ErrTooLarge
	}
	u := Upload{ID: uuid.New(), Name: cleanName(meta["filename"]), Length: length}
	quota := s.cfg.MaxKept
	if s.cfg.Quota != nil {
		if quota, err = s.cfg.Quota(ctx, user); err != nil {
			return Upload{}, fmt.Errorf("create upload: %w", err)
		}
	}
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		now := s.now()
		u.Expires = now.Add(life)
		var open int
		var kept int64
		if err := tx.QueryRow(ctx, `SELECT count(*) FILTER (WHERE finished_at IS NULL), CAST(coalesce(sum(size), 0) AS BIGINT) FROM attachments
			WHERE user_id = $1 AND (expires_at IS NULL OR expires_at > $2)`, user, now).Scan(&open, &kept); err != nil {
			return err
		}
		if open >= s.cfg.MaxOpen {
			return ErrOpen
		}
		if kept+length > quota {
			return ErrQuota
		}
		_, err := tx.Exec(ctx, `INSERT INTO attachments (id, user_id, name, length, size, created_at, expires_at) VALUES ($1, $2, $3, $4, $4, $5, $6)`,
			u.ID, user, u.Name, length, now, u.Expires)
		return err
	})
	if err != nil {
		return Upload{}, fmt.Errorf("create upload: %w", err)
	}
	return u, nil
}

// Upload returns a user's upload that is in no message.
func (s *Store) Upload(ctx context.Context, user core.UserID, id uuid.UUID) (u Upload, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		u, err = s.upload(ctx, q, user, id)
		return err
	})
	if err != nil {
		return Upload{}, fmt.Errorf("upload: %w", err)
	}
	return u, nil
}

func (s *Store) upload(ctx context.Context, q db.Querier, user core.UserID, id uuid.UUID) (Upload, error) {
	u := Upload{ID: id}
	err := q.QueryRow(ctx, `SELECT name, length, received, type, finished_at IS NOT NULL, expires_at FROM attachments
		WHERE id = $1 AND user_id = $2 AND expires_at > $3`, id, user, s.now()).Scan(&u.Name, &u.Length, &u.Offset, &u.Type, &u.Finished, &u.Expires)
	if errors.Is(err, pgx.ErrNoRows) {
		return Upload{}, ErrNoUpload
	}
	u.Expires = u.Expires.UTC()
	return u, err
}

// Delete ends an upload that is in no message, finished or not.
func (s *Store) Delete(ctx context.Context, user core.UserID, id uuid.UUID) error {
	err := s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := s.upload(ctx, tx, user, id); err != nil {
			return err
		}
		return s.remove(ctx, tx, []uuid.UUID{id})
	})
	if err != nil {
		return fmt.Errorf("delete upload: %w", err)
	}
	return nil
}

// settle is how long there is to store what has arrived, also of a client that has
// gone.
const settle = 60 * time.Second

// Append adds to an upload what body has, from an offset; if that breaks off, what
// arrived until then. The last chunk finishes it: an image is looked at then, which
// takes a second.
func (s *Store) Append(ctx context.Context, user core.UserID, id uuid.UUID, offset int64, body io.Reader) (Upload, error) {
	u, err := s.Upload(ctx, user, id)
	if err != nil {
		return Upload{}, err
	}
	if u.Offset != offset {
		return Upload{}, ErrOffset
	}
	if u.Finished {
		return u, nil
	}
	// A phone may take a minute for it, and there may be many: not in memory.
	part, err := os.CreateTemp("", "muster-upload-")
	if err != nil {
		return Upload{}, fmt.Errorf("append: %w", err)
	}
	defer os.Remove(part.Name()) // where what is open can't be removed
	defer part.Close()
	_ = os.Remove(part.Name()) // at once, else a node that is killed leaves it
	left := min(MaxChunk, u.Length-offset)
	n, broken := io.Copy(part, io.LimitReader(body, left+1))
	if n > left {
		return Upload{}, ErrChunk
	}
	if n == 0 {
		return u, nil
	}
	_ = broken // a client that comes back is told the offset
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settle)
	defer cancel()
	u, err = s.put(ctx, user, u, part, n)
	if err != nil {
		return Upload{}, fmt.Errorf("append: %w", err)
	}
	return u, nil
}

// put stores a chunk, and finishes the upload if it is the last one.
func (s *Store) put(ctx context.Context, user core.UserID, u Upload, part *os.File, n int64) (Upload, error) {
	before, err := s.chunks(ctx, u.ID)
	if err != nil {
		return u, err
	}
	last := u.Offset+n == u.Length
	if len(before) >= maxChunks && !last {
		return u, s.refuse(ctx, u.ID, ErrChunks)
	}
	if head := make([]byte, sniffed); u.Offset == 0 && (n >= sniffed || last) { // before all of it has come
		size, err := part.ReadAt(head, 0)
		if err != nil && err != io.EOF {
			return u, err
		}
		if sniff(head[:size]) == "" {
			return u, s.refuse(ctx, u.ID, ErrType)
		}
	}
	if _, err := part.Seek(0, io.SeekStart); err != nil {
		return u, err
	}
	added := chunk{u.Offset, n, newKey(u.ID)}
	if err := s.store(ctx, user, added.key, part, n, "application/octet-stream"); err != nil {
		return u, err
	}
	made := result{chunks: append(before, added), size: u.Length}
	if last {
		if err := s.finish(ctx, user, u, &made); err != nil {
			return u, err
		}
	}
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		now := s.now()
		if last {
			return s.finished(ctx, tx, u, made, len(before), now)
		}
		tag, err := tx.Exec(ctx, `UPDATE attachments SET received = $3 WHERE id = $1 AND received = $2 AND finished_at IS NULL AND expires_at > $4`,
			u.ID, u.Offset, u.Offset+n, now)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return ErrOffset // the object goes by its time: it may be there, after a commit in doubt
		}
		if err := insertChunk(ctx, tx, u.ID, added); err != nil {
			return err
		}
		return s.catalog.Keep(ctx, tx, u.Expires, added.key)
	})
	if err != nil {
		return u, err
	}
	u.Offset += n
	if last {
		u.Finished, u.Type = true, made.kind
	}
	return u, nil
}

// finished is the transaction of the last chunk: the file is what was made of it.
func (s *Store) finished(ctx context.Context, tx pgx.Tx, u Upload, made result, before int, now time.Time) error {
	until := now.Add(life)
	tag, err := tx.Exec(ctx, `UPDATE attachments SET received = length, size = $3, type = $4, name = $5, width = $6, height = $7, thumbnail = $8,
		finished_at = $9, expires_at = $10 WHERE id = $1 AND received = $2 AND finished_at IS NULL AND expires_at > $9`,
		u.ID, u.Offset, made.size, made.kind, made.name, made.width, made.height, made.thumbnail, now, until)
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 0 {
		return ErrOffset
	}
	if made.replaced { // by one without what was beside the pixels
		rows, err := tx.Query(ctx, `DELETE FROM attachment_chunks WHERE attachment_id = $1 RETURNING key`, u.ID)
		if err != nil {
			return err
		}
		old, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		if err := s.catalog.Drop(ctx, tx, append(old, made.dropped)...); err != nil {
			return err
		}
		before = 0
	}
	for _, c := range made.chunks[before:] {
		if err := insertChunk(ctx, tx, u.ID, c); err != nil {
			return err
		}
	}
	keys, err := keysOf(ctx, tx, []uuid.UUID{u.ID})
	if err != nil {
		return err
	}
	return s.catalog.Keep(ctx, tx, until, keys...)
}

func insertChunk(ctx context.Context, tx pgx.Tx, id uuid.UUID, c chunk) error {
	_, err := tx.Exec(ctx, `INSERT INTO attachment_chunks (attachment_id, start, size, key) VALUES ($1, $2, $3, $4)`, id, c.start, c.size, c.key)
	return err
}

// refuse deletes an upload that will never be a file, and returns why. One that somebody
// else finished meanwhile stays.
func (s *Store) refuse(ctx context.Context, id uuid.UUID, why error) error {
	return errors.Join(why, s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		var open bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM attachments WHERE id = $1 AND finished_at IS NULL)`, id).Scan(&open); err != nil || !open {
			return err
		}
		return s.remove(ctx, tx, []uuid.UUID{id})
	}))
}

// store puts an object that nobody keeps yet.
func (s *Store) store(ctx context.Context, user core.UserID, key string, body io.Reader, size int64, contentType string) error {
	if err := s.catalog.Reserve(ctx, user, kind, key); err != nil {
		return err
	}
	return s.catalog.Put(ctx, key, body, size, contentType)
}

func newKey(id uuid.UUID) string { return "attachments/" + id.String() + "/" + uuid.NewString() }
