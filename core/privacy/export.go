package privacy

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/jobs"
	"github.com/mustermesh/muster/core/objects"
)

const (
	exportKeep  = 7 * 24 * time.Hour // a copy is there for so long
	exportAgain = time.Hour          // another is made after so long
	linkLife    = 10 * time.Minute   // of a download
	kindExport  = "export"
)

// Export is a copy of somebody's data.
type Export struct {
	ID        uuid.UUID
	CreatedAt time.Time
	Ready     bool
	Expires   time.Time // zero until it is ready
	Size      int64
	URL       string // of the download, for some minutes; empty until it is ready
}

// Export has a copy of a user's data made, by a job. Who asks again while one is
// being made, or soon after, gets that.
func (s *Store) Export(ctx context.Context, user core.UserID) (e Export, err error) {
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		now := s.now()
		if e, err = s.latest(ctx, tx, user); err == nil && (!e.Ready || now.Sub(e.CreatedAt) < exportAgain) {
			return nil
		}
		if err != nil && !errors.Is(err, ErrNoExport) {
			return err
		}
		e = Export{ID: uuid.New(), CreatedAt: now}
		if _, err := tx.Exec(ctx, `INSERT INTO exports (id, user_id, created_at) VALUES ($1, $2, $3)`, e.ID, user, now); err != nil {
			return err
		}
		return jobs.Enqueue(ctx, tx, jobs.Job{Kind: exportJob, Key: e.ID.String(), Payload: about{User: user.String(), Export: e.ID.String()}})
	})
	if err != nil {
		return Export{}, fmt.Errorf("export: %w", err)
	}
	return e, nil
}

// Latest returns the copy that a user asked for last.
func (s *Store) Latest(ctx context.Context, user core.UserID) (e Export, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		e, err = s.latest(ctx, q, user)
		return err
	})
	if err != nil {
		return Export{}, fmt.Errorf("read export: %w", err)
	}
	return e, nil
}

func (s *Store) latest(ctx context.Context, q db.Querier, user core.UserID) (e Export, err error) {
	var expires *time.Time
	now := s.now()
	err = q.QueryRow(ctx,
		`SELECT id, created_at, ready_at IS NOT NULL, expires_at, size FROM exports
		 WHERE user_id = $1 AND (expires_at IS NULL OR expires_at > $2) ORDER BY created_at DESC, id LIMIT 1`, user, now).
		Scan(&e.ID, &e.CreatedAt, &e.Ready, &expires, &e.Size)
	if errors.Is(err, pgx.ErrNoRows) {
		return Export{}, ErrNoExport
	}
	if err != nil {
		return Export{}, err
	}
	e.CreatedAt = e.CreatedAt.UTC()
	if expires != nil {
		e.Expires = expires.UTC()
	}
	if e.Ready {
		e.URL = s.cfg.Base + "/api/v1/exports/" + s.token(e.ID, now.Add(linkLife))
	}
	return e, nil
}

// token lets whoever has it download an export until a time. It is stored
// nowhere.
func (s *Store) token(export uuid.UUID, until time.Time) string {
	b := binary.BigEndian.AppendUint64(export[:], uint64(until.Unix()))
	return base64.RawURLEncoding.EncodeToString(append(b, s.mac(b)...))
}

const macSize = 16

func (s *Store) mac(b []byte) []byte {
	h := hmac.New(sha256.New, s.link)
	h.Write(b)
	return h.Sum(nil)[:macSize]
}

// Download opens the copy that a token is for.
func (s *Store) Download(ctx context.Context, token string) (objects.Object, error) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) != 16+8+macSize || !hmac.Equal(b[24:], s.mac(b[:24])) ||
		s.now().After(time.Unix(int64(binary.BigEndian.Uint64(b[16:])), 0)) {
		return objects.Object{}, ErrNoExport
	}
	id := uuid.UUID(b[:16])
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT e.id FROM exports e JOIN users u ON u.id = e.user_id WHERE e.id = $1 AND e.expires_at > $2 AND u.deleted_at IS NULL`, id, s.now()).Scan(&id)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return objects.Object{}, ErrNoExport
	}
	if err != nil {
		return objects.Object{}, fmt.Errorf("download export: %w", err)
	}
	o, err := s.cfg.Objects.Get(ctx, exportKey(id))
	if errors.Is(err, objects.ErrNotFound) {
		return objects.Object{}, ErrNoExport
	}
	return o, err
}

func exportKey(id uuid.UUID) string { return "exports/" + id.String() + ".json" }

// write makes a copy and says that it is ready. It is the job's work, and can be
// repeated.
func (s *Store) write(ctx context.Context, user core.UserID, export string) error {
	id, err := uuid.Parse(export)
	if err != nil {
		return jobs.Permanent(err)
	}
	var ready bool // an attempt before this one did it
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT ready_at IS NOT NULL FROM exports WHERE id = $1`, id).Scan(&ready)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows) || ready: // or the account has ended
		return nil
	case err != nil:
		return fmt.Errorf("export: %w", err)
	}
	f, err := os.CreateTemp("", "muster-export-")
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer os.Remove(f.Name()) // where what is open can't be removed
	defer f.Close()
	_ = os.Remove(f.Name()) // at once, else a node that is killed leaves it
	if err := s.collect(ctx, user, f); errors.Is(err, ErrNotFound) {
		return nil // the account has ended meanwhile
	} else if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	key := exportKey(id)
	if err := s.cfg.Objects.Reserve(ctx, user, kindExport, key); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if err := s.cfg.Objects.Put(ctx, key, f, size, "application/json"); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	err = s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		now := s.now()
		until := now.Add(exportKeep)
		tag, err := tx.Exec(ctx, `UPDATE exports SET ready_at = $2, expires_at = $3, size = $4 WHERE id = $1 AND ready_at IS NULL`, id, now, until, size)
		if err != nil || tag.RowsAffected() == 0 { // it was said before, or the account has ended
			return err
		}
		if err := s.cfg.Objects.Keep(ctx, tx, until, key); err != nil {
			return err
		}
		if s.cfg.Notify == nil {
			return nil
		}
		return s.cfg.Notify.Notify(ctx, tx, user, "export_ready", map[string]any{"export_id": export})
	})
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return nil
}

// collect writes what is stored about a user, as of one moment, as JSON.
func (s *Store) collect(ctx context.Context, user core.UserID, f *os.File) error {
	return s.db.InTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(ctx context.Context, tx pgx.Tx) error {
		// From its beginning: this may be another attempt.
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if err := f.Truncate(0); err != nil {
			return err
		}
		var there bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM users WHERE id = $1 AND deleted_at IS NULL)`, user).Scan(&there); err != nil {
			return err
		}
		if !there {
			return ErrNotFound
		}
		w := &jsonWriter{w: bufio.NewWriter(f)}
		w.printf(`{"format":"muster export 1","user_id":%q,"made_at":%q,"tables":{`, user.String(), s.now().Format(time.RFC3339))
		first := true
		for _, t := range inventory {
			if t.export == "" {
				continue
			}
			w.list(first, t.name)
			first = false
			if err := rows(ctx, tx, t.export, user, w.add); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			w.printf("]")
		}
		w.printf("}")
		for _, name := range slices.Sorted(maps.Keys(s.cfg.Extra)) {
			w.list(false, name)
			if err := s.cfg.Extra[name](ctx, user, w.add); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			w.printf("]")
		}
		w.printf("}\n")
		return w.flush()
	})
}

// rows gives each row of a query, as an object by the columns' names.
func rows(ctx context.Context, tx pgx.Tx, sql string, user core.UserID, add func(any) error) error {
	found, err := tx.Query(ctx, sql, user)
	if err != nil {
		return err
	}
	defer found.Close()
	for found.Next() {
		values, err := found.Values()
		if err != nil {
			return err
		}
		row := make(map[string]any, len(values))
		for i, column := range found.FieldDescriptions() {
			switch v := values[i].(type) {
			case [16]byte:
				row[column.Name] = uuid.UUID(v)
			case time.Time:
				row[column.Name] = v.UTC()
			default:
				row[column.Name] = v
			}
		}
		if err := add(row); err != nil {
			return err
		}
	}
	return found.Err()
}

// jsonWriter writes lists one value at a time.
type jsonWriter struct {
	w     *bufio.Writer
	began bool // the list has a value
	err   error
}

func (w *jsonWriter) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(w.w, format, args...); err != nil && w.err == nil {
		w.err = err
	}
}

func (w *jsonWriter) list(first bool, name string) {
	if !first {
		w.printf(",")
	}
	w.printf("\n%q:[", name)
	w.began = false
}

func (w *jsonWriter) add(value any) error {
	b, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if w.began {
		w.printf(",")
	}
	w.began = true
	w.printf("\n%s", b)
	return w.err
}

func (w *jsonWriter) flush() error {
	if err := w.w.Flush(); w.err == nil {
		w.err = err
	}
	return w.err
}
