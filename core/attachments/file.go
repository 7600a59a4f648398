package attachments

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core/db"
)

// Link is where a file is for a while, for whoever has it.
type Link struct {
	URL     string
	Expires time.Time
}

// Link returns one to a file of a room, or to its thumbnail. Whether the caller is in
// that room is the caller's business.
func (s *Store) Link(ctx context.Context, room string, id uuid.UUID, thumbnail bool) (Link, error) {
	var small string
	err := s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT thumbnail FROM attachments WHERE id = $1 AND room = $2 AND room <> ''`, id, room).Scan(&small)
	})
	if errors.Is(err, pgx.ErrNoRows) || err == nil && thumbnail && small == "" {
		return Link{}, ErrNoFile
	}
	if err != nil {
		return Link{}, fmt.Errorf("link to file: %w", err)
	}
	until := s.now().Add(linkLife).Truncate(time.Second)
	return Link{s.cfg.Base + "/api/v1/files/" + s.token(id, thumbnail, until), until}, nil
}

const macSize = 16

// token lets whoever has it have a file until a time. It is stored nowhere.
func (s *Store) token(id uuid.UUID, thumbnail bool, until time.Time) string {
	which := byte(0)
	if thumbnail {
		which = 1
	}
	b := binary.BigEndian.AppendUint64(append(id[:], which), uint64(until.Unix()))
	return base64.RawURLEncoding.EncodeToString(append(b, s.mac(b)...))
}

func (s *Store) mac(b []byte) []byte {
	h := hmac.New(sha256.New, s.link)
	h.Write(b)
	return h.Sum(nil)[:macSize]
}

// File is one that is read. Whoever has it closes it.
type File struct {
	io.ReadSeekCloser
	Disposition string // Content-Disposition: what a browser does with it, under which name
	Type        string
	Tag         string // of this very content
}

// Open opens the file that a link is for. The context is that of all the reading.
func (s *Store) Open(ctx context.Context, token string) (File, error) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) != 16+1+8+macSize || !hmac.Equal(b[25:], s.mac(b[:25])) ||
		s.now().After(time.Unix(int64(binary.BigEndian.Uint64(b[17:])), 0)) {
		return File{}, ErrNoFile
	}
	id, small := uuid.UUID(b[:16]), b[16] == 1
	var name, kind, thumbnail string
	var size int64
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT a.name, a.type, a.size, a.thumbnail FROM attachments a JOIN users u ON u.id = a.user_id
			WHERE a.id = $1 AND a.room <> '' AND u.deleted_at IS NULL`, id).Scan(&name, &kind, &size, &thumbnail)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return File{}, ErrNoFile
	}
	if err != nil {
		return File{}, fmt.Errorf("open file: %w", err)
	}
	tag := fmt.Sprintf("%q", id)
	if small {
		o, err := s.catalog.Get(ctx, thumbnail)
		if err != nil {
			return File{}, ErrNoFile
		}
		_ = o.Body.Close()
		part := []chunk{{0, o.Size, thumbnail}}
		return File{s.open(ctx, part, o.Size), "inline", "image/jpeg", fmt.Sprintf("%q", id.String()+"-small")}, nil
	}
	parts, err := s.chunks(ctx, id)
	if err != nil {
		return File{}, fmt.Errorf("open file: %w", err)
	}
	return File{s.open(ctx, parts, size), disposition(name, kind), kind, tag}, nil
}

// disposition lets a browser show what can't do anything there.
func disposition(name, kind string) string {
	how := "attachment"
	if family, _, _ := strings.Cut(kind, "/"); family == "image" || family == "video" || family == "audio" {
		how = "inline"
	}
	if s := mime.FormatMediaType(how, map[string]string{"filename": name}); s != "" {
		return s
	}
	return how
}

// chunk is a part of a file.
type chunk struct {
	start, size int64
	key         string
}

func (s *Store) chunks(ctx context.Context, id uuid.UUID) (list []chunk, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, `SELECT start, size, key FROM attachment_chunks WHERE attachment_id = $1 ORDER BY start`, id)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (c chunk, err error) {
			return c, r.Scan(&c.start, &c.size, &c.key)
		})
		return err
	})
	return list, err
}

// reader reads chunks as one file. To seek costs nothing until it reads, and then at
// most the beginning of one chunk.
type reader struct {
	ctx   context.Context
	s     *Store
	parts []chunk
	size  int64
	at    int64
	body  io.ReadCloser // at at; nil: not open
	left  int64         // of it
}

func (s *Store) open(ctx context.Context, parts []chunk, size int64) *reader {
	return &reader{ctx: ctx, s: s, parts: parts, size: size}
}

// Read satisfies io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if r.at >= r.size {
		return 0, io.EOF
	}
	if r.body == nil {
		if err := r.find(); err != nil {
			return 0, err
		}
	}
	n, err := r.body.Read(p[:min(int64(len(p)), r.left)])
	r.at += int64(n)
	r.left -= int64(n)
	switch {
	case r.left == 0:
		err = r.shut()
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (r *reader) find() error {
	for _, c := range r.parts {
		if r.at < c.start || r.at >= c.start+c.size {
			continue
		}
		o, err := r.s.catalog.Get(r.ctx, c.key)
		if err != nil {
			return fmt.Errorf("read file: %w", err)
		}
		if _, err := io.CopyN(io.Discard, o.Body, r.at-c.start); err != nil {
			return errors.Join(fmt.Errorf("read file: %w", err), o.Body.Close())
		}
		r.body, r.left = o.Body, c.start+c.size-r.at
		return nil
	}
	return fmt.Errorf("read file: nothing at %d: %w", r.at, io.ErrUnexpectedEOF)
}

func (r *reader) shut() error {
	if r.body == nil {
		return nil
	}
	err := r.body.Close()
	r.body = nil
	return err
}

// Seek satisfies io.Seeker.
func (r *reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return r.at, errors.New("seek before the beginning of a file")
	}
	if offset == r.at {
		return r.at, nil
	}
	r.at = offset
	return r.at, r.shut()
}

// Close satisfies io.Closer.
func (r *reader) Close() error { return r.shut() }
