package attachments

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/core/objects"
	"github.com/mustermesh/muster/core/objects/dir"
	"github.com/mustermesh/muster/core/objects/objectstest"
	"github.com/mustermesh/muster/core/objects/s3"
)

var secret = []byte("0123456789abcdef0123456789abcdef")

const room = "group:00000000-0000-4000-8000-000000000001"

// bundle is two nodes on one database and one store of objects.
type bundle struct {
	*testing.T
	db       *db.DB
	catalog  *objects.Catalog
	faulty   *faulty
	here     *Store
	there    *Store
	ana, bob core.UserID

	mu  sync.Mutex
	now time.Time
}

// faulty fails to put when it is told to.
type faulty struct {
	objects.Store
	mu   sync.Mutex
	fail int // Puts from now that fail after they put
}

var errFaulty = errors.New("the store is away")

func (f *faulty) Put(ctx context.Context, key string, body io.Reader, size int64, kind string) error {
	err := f.Store.Put(ctx, key, body, size, kind)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail > 0 {
		f.fail--
		return errFaulty
	}
	return err
}

func setup(t *testing.T, files objects.Store, cfg Config) *bundle {
	if files == nil {
		d, err := dir.Open(t.TempDir())
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, d.Close()) })
		files = d
	}
	b := &bundle{T: t, db: devdb.Test(t), faulty: &faulty{Store: files}, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	cfg.Now = func() time.Time {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.now = b.now.Add(time.Millisecond)
		return b.now
	}
	var err error
	b.catalog = objects.NewCatalog(b.db, b.faulty, cfg.Now)
	b.here, err = New(b.db, b.catalog, secret, cfg)
	require.NoError(t, err)
	b.there, err = New(b.db, objects.NewCatalog(b.db, b.faulty, cfg.Now), secret, cfg)
	require.NoError(t, err)
	b.ana, b.bob = b.user("ana"), b.user("bob")
	return b
}

func (b *bundle) advance(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

func (b *bundle) tx(fn func(ctx context.Context, tx pgx.Tx) error) error {
	return b.db.InTx(b.Context(), pgx.TxOptions{}, fn)
}

func (b *bundle) user(name string) core.UserID {
	id := core.UserID(uuid.New())
	require.NoError(b, b.tx(func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO users (id, username, username_key, guest, home_region) VALUES ($1, $2, $2, true, 'eu-west')`, id, name)
		return err
	}))
	return id
}

func (b *bundle) count(sql string) (n int) {
	require.NoError(b, b.db.Read(b.Context(), func(ctx context.Context, q db.Querier) error { return q.QueryRow(ctx, sql).Scan(&n) }))
	return n
}

func (b *bundle) attach(user core.UserID, ids ...uuid.UUID) (list []Attachment, err error) {
	err = b.tx(func(ctx context.Context, tx pgx.Tx) error {
		list, err = b.here.Attach(ctx, tx, user, room, ids)
		return err
	})
	return list, err
}

func (b *bundle) create(length int64, name string) Upload {
	u, err := b.here.Create(b.Context(), b.ana, length, metadata(name))
	require.NoError(b, err)
	return u
}

// upload uploads all of it at once.
func (b *bundle) upload(data []byte, name string) (Upload, error) {
	u := b.create(int64(len(data)), name)
	return b.here.Append(b.Context(), b.ana, u.ID, 0, bytes.NewReader(data))
}

// file is what a link gives.
func (b *bundle) file(id uuid.UUID, thumbnail bool) (File, []byte) {
	link, err := b.there.Link(b.Context(), room, id, thumbnail)
	require.NoError(b, err)
	f, err := b.here.Open(b.Context(), strings.TrimPrefix(link.URL, "/api/v1/files/"))
	require.NoError(b, err)
	data, err := io.ReadAll(f)
	require.NoError(b, err)
	require.NoError(b, f.Close())
	return f, data
}

// noise is a ZIP file by its beginning.
func noise(seed uint64, size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(size)}).Read(data)
	copy(data, "PK\x03\x04")
	return data
}

// Interrupted anywhere, gone on with on either node, it is what was sent; also over
// stores that fail after they have put, and with somebody who sends the same.
func interrupted(t *testing.T, files objects.Store) {
	b := setup(t, files, Config{})
	r := rand.New(rand.NewPCG(7, 7))
	for round := range 12 {
		data := noise(uint64(round), 1+r.IntN(300_000))
		u := b.create(int64(len(data)), "a.zip")
		for !u.Finished {
			node := []*Store{b.here, b.there}[r.IntN(2)]
			rest := data[u.Offset:]
			var body io.Reader = bytes.NewReader(rest)
			if r.IntN(3) > 0 {
				body = io.MultiReader(bytes.NewReader(rest[:r.IntN(len(rest))]), iotest.ErrReader(io.ErrUnexpectedEOF))
			}
			if r.IntN(4) == 0 {
				b.faulty.mu.Lock()
				b.faulty.fail = 1
				b.faulty.mu.Unlock()
			}
			if r.IntN(5) == 0 {
				_, err := node.Append(t.Context(), b.ana, u.ID, u.Offset+1+int64(r.IntN(9)), bytes.NewReader(rest))
				require.ErrorIs(t, err, ErrOffset)
			}
			var both sync.WaitGroup
			answers := make([]error, 2)
			both.Go(func() { _, answers[0] = node.Append(t.Context(), b.ana, u.ID, u.Offset, body) })
			if r.IntN(3) == 0 {
				both.Go(func() {
					_, answers[1] = b.there.Append(t.Context(), b.ana, u.ID, u.Offset, bytes.NewReader(rest[:len(rest)/2]))
				})
			}
			both.Wait()
			for _, err := range answers {
				if err != nil && !errors.Is(err, ErrOffset) {
					require.ErrorIs(t, err, errFaulty)
				}
			}
			b.faulty.mu.Lock()
			b.faulty.fail = 0
			b.faulty.mu.Unlock()
			before := u.Offset
			var err error
			u, err = b.there.Upload(t.Context(), b.ana, u.ID)
			require.NoError(t, err)
			require.GreaterOrEqual(t, u.Offset, before)
			require.Equal(t, u.Offset == u.Length, u.Finished)
		}
		_, err := b.attach(b.ana, u.ID)
		require.NoError(t, err)
		f, got := b.file(u.ID, false)
		require.True(t, bytes.Equal(data, got), "round %d", round)
		require.Equal(t, "application/zip", f.Type)
	}
	// What failed, and what lost, is deleted, and nothing else is.
	kept := b.count(`SELECT count(*) FROM attachment_chunks`)
	require.Greater(t, b.count(`SELECT count(*) FROM objects`), kept)
	b.advance(3 * time.Hour)
	require.NoError(t, b.catalog.Sweep(t.Context()))
	require.Equal(t, kept, b.count(`SELECT count(*) FROM objects`))
	require.Equal(t, 0, b.count(`SELECT count(*) FROM attachment_chunks c WHERE NOT EXISTS (SELECT 1 FROM objects o WHERE o.key = c.key AND o.expires_at IS NULL)`))

	// Parts of it, from anywhere.
	data := noise(99, 3*MaxChunk/2)
	u := b.create(int64(len(data)), "b.zip")
	u, err := b.here.Append(t.Context(), b.ana, u.ID, 0, bytes.NewReader(data[:MaxChunk]))
	require.NoError(t, err)
	_, err = b.there.Append(t.Context(), b.ana, u.ID, u.Offset, bytes.NewReader(data[MaxChunk:]))
	require.NoError(t, err)
	_, err = b.attach(b.ana, u.ID)
	require.NoError(t, err)
	link, err := b.here.Link(t.Context(), room, u.ID, false)
	require.NoError(t, err)
	f, err := b.here.Open(t.Context(), strings.TrimPrefix(link.URL, "/api/v1/files/"))
	require.NoError(t, err)
	for _, at := range []int64{0, 1, MaxChunk - 3, MaxChunk, int64(len(data)) - 5} {
		_, err := f.Seek(at, io.SeekStart)
		require.NoError(t, err)
		part := make([]byte, 5)
		_, err = io.ReadFull(f, part)
		require.NoError(t, err)
		require.Equal(t, data[at:at+5], part, "at %d", at)
	}
	require.NoError(t, f.Close())
}

func TestInterrupted(t *testing.T) { interrupted(t, nil) }

func TestInterruptedS3(t *testing.T) {
	endpoint := objectstest.S3(t)
	objectstest.MakeBucket(t, endpoint, "attachments")
	files, err := s3.Open(t.Context(), fmt.Sprintf("s3://attachments?endpoint=%s&region=us-east-1", endpoint))
	require.NoError(t, err)
	interrupted(t, files)
}

// Of many who send the same chunk at once one is heard.
func TestConcurrent(t *testing.T) {
	b := setup(t, nil, Config{})
	data := noise(1, 50_000)
	u := b.create(int64(len(data)), "a.zip")
	var all sync.WaitGroup
	answers := make([]error, 12)
	for i := range answers {
		all.Go(func() {
			_, answers[i] = []*Store{b.here, b.there}[i%2].Append(t.Context(), b.ana, u.ID, 0, bytes.NewReader(data))
		})
	}
	all.Wait()
	heard := 0
	for _, err := range answers {
		if err == nil {
			heard++
			continue
		}
		require.ErrorIs(t, err, ErrOffset)
	}
	require.Equal(t, 1, heard)
	require.Equal(t, 1, b.count(`SELECT count(*) FROM attachment_chunks`))
}

func TestAttach(t *testing.T) {
	b := setup(t, nil, Config{})
	one, err := b.upload([]byte("one"), "one.txt")
	require.NoError(t, err)
	two, err := b.upload([]byte("two"), "two")
	require.NoError(t, err)
	open := b.create(10, "open.txt")
	for _, ids := range [][]uuid.UUID{{open.ID}, {one.ID, open.ID}, {one.ID, one.ID}, {uuid.New()}} {
		_, err := b.attach(b.ana, ids...)
		require.ErrorIs(t, err, ErrAttachment)
	}
	_, err = b.attach(b.bob, one.ID)
	require.ErrorIs(t, err, ErrAttachment, "another's")
	_, err = b.here.Link(t.Context(), room, one.ID, false)
	require.ErrorIs(t, err, ErrNoFile, "in no message yet")

	list, err := b.attach(b.ana, two.ID, one.ID)
	require.NoError(t, err)
	require.Equal(t, []Attachment{{two.ID, "two.txt", "text/plain", 3, 0, 0, false}, {one.ID, "one.txt", "text/plain", 3, 0, 0, false}}, list)
	_, err = b.attach(b.ana, one.ID)
	require.ErrorIs(t, err, ErrAttachment, "in a message already")
	_, err = b.here.Upload(t.Context(), b.ana, one.ID)
	require.ErrorIs(t, err, ErrNoUpload)
	require.ErrorIs(t, b.here.Delete(t.Context(), b.ana, one.ID), ErrNoUpload)
	_, err = b.here.Link(t.Context(), "group:other", one.ID, false)
	require.ErrorIs(t, err, ErrNoFile)
	_, err = b.here.Link(t.Context(), "", open.ID, false)
	require.ErrorIs(t, err, ErrNoFile)

	// What a message has stays, until it is deleted.
	b.advance(72 * time.Hour)
	require.NoError(t, b.here.Sweep(t.Context()))
	require.NoError(t, b.catalog.Sweep(t.Context()))
	_, data := b.file(one.ID, false)
	require.Equal(t, "one", string(data))
	link, err := b.here.Link(t.Context(), room, one.ID, false)
	require.NoError(t, err)
	require.NoError(t, b.tx(func(ctx context.Context, tx pgx.Tx) error { return b.here.Detach(ctx, tx, []uuid.UUID{one.ID}) }))
	_, err = b.here.Open(t.Context(), strings.TrimPrefix(link.URL, "/api/v1/files/"))
	require.ErrorIs(t, err, ErrNoFile)
	require.NoError(t, b.catalog.Sweep(t.Context()))
	require.Equal(t, 1, b.count(`SELECT count(*) FROM objects`))
	require.Equal(t, 1, b.count(`SELECT count(*) FROM attachments`), "the open one was swept")

	// A transaction that fails leaves them unattached.
	again, err := b.upload([]byte("again"), "again.txt")
	require.NoError(t, err)
	require.ErrorIs(t, b.tx(func(ctx context.Context, tx pgx.Tx) error {
		_, err := b.here.Attach(ctx, tx, b.ana, room, []uuid.UUID{again.ID})
		require.NoError(t, err)
		return errFaulty
	}), errFaulty)
	_, err = b.attach(b.ana, again.ID)
	require.NoError(t, err)

	// With the account goes what it sent.
	require.NoError(t, b.catalog.Erase(t.Context(), b.ana))
	link, err = b.here.Link(t.Context(), room, again.ID, false)
	require.NoError(t, err)
	f, err := b.here.Open(t.Context(), strings.TrimPrefix(link.URL, "/api/v1/files/"))
	require.NoError(t, err)
	_, err = io.ReadAll(f)
	require.ErrorIs(t, err, objects.ErrNotFound)
}

func TestLimits(t *testing.T) {
	b := setup(t, nil, Config{MaxFile: 1000, MaxOpen: 3, MaxKept: 2500})
	_, err := b.here.Create(t.Context(), b.ana, 1001, "")
	require.ErrorIs(t, err, ErrTooLarge)
	for _, n := range []int64{0, -1} {
		_, err = b.here.Create(t.Context(), b.ana, n, "")
		require.ErrorIs(t, err, ErrBadUpload)
	}
	// Many at once are no way around it.
	var all sync.WaitGroup
	answers := make([]error, 10)
	for i := range answers {
		all.Go(func() { _, answers[i] = b.here.Create(t.Context(), b.ana, 10, "") })
	}
	all.Wait()
	for _, err := range answers {
		if err != nil {
			require.ErrorIs(t, err, ErrOpen)
		}
	}
	require.Equal(t, 3, b.count(`SELECT count(*) FROM attachments`))
	_, err = b.here.Create(t.Context(), b.bob, 10, "")
	require.NoError(t, err, "each has their own")

	b.advance(25 * time.Hour)
	for range 2 {
		u, err := b.upload(noise(1, 1000), "a.zip")
		require.NoError(t, err)
		_, err = b.attach(b.ana, u.ID)
		require.NoError(t, err)
	}
	_, err = b.here.Create(t.Context(), b.ana, 501, "")
	require.ErrorIs(t, err, ErrQuota)
	u := b.create(500, "")
	_, err = b.here.Append(t.Context(), b.ana, u.ID, 0, bytes.NewReader(noise(1, 501)))
	require.ErrorIs(t, err, ErrChunk)
	got, err := b.here.Append(t.Context(), b.ana, u.ID, 0, iotest.ErrReader(io.ErrUnexpectedEOF))
	require.NoError(t, err)
	require.Zero(t, got.Offset)
	_, err = b.here.Append(t.Context(), b.bob, u.ID, 0, bytes.NewReader(noise(1, 10)))
	require.ErrorIs(t, err, ErrNoUpload)
	require.NoError(t, b.here.Delete(t.Context(), b.ana, u.ID))
	require.ErrorIs(t, b.here.Delete(t.Context(), b.ana, u.ID), ErrNoUpload)
	b.create(500, "")
}

// A node that dies at any point between its writes leaves nothing for long, and the
// upload can go on.
func TestCrash(t *testing.T) {
	b := setup(t, nil, Config{})
	var picture bytes.Buffer
	require.NoError(t, png.Encode(&picture, image.NewGray(image.Rect(0, 0, 600, 400))))
	for fails := 1; fails <= 3; fails++ { // the chunk, the image, its thumbnail
		u := b.create(int64(picture.Len()), "a.png")
		calls := 0
		b.faulty.Store = failAt{b.faulty.Store, &calls, fails}
		_, err := b.here.Append(t.Context(), b.ana, u.ID, 0, bytes.NewReader(picture.Bytes()))
		require.ErrorIs(t, err, errFaulty, "%d", fails)
		b.faulty.Store = b.faulty.Store.(failAt).Store
		u, err = b.there.Upload(t.Context(), b.ana, u.ID)
		require.NoError(t, err)
		require.Zero(t, u.Offset)
		u, err = b.there.Append(t.Context(), b.ana, u.ID, 0, bytes.NewReader(picture.Bytes()))
		require.NoError(t, err)
		require.True(t, u.Finished)
		_, err = b.attach(b.ana, u.ID)
		require.NoError(t, err)
	}
	b.advance(3 * time.Hour)
	require.NoError(t, b.catalog.Sweep(t.Context()))
	require.Equal(t, 6, b.count(`SELECT count(*) FROM objects`), "three images, three thumbnails")

	// What nobody finishes or sends goes after a day.
	open := b.create(100, "")
	_, err := b.here.Append(t.Context(), b.ana, open.ID, 0, bytes.NewReader(noise(1, 50)))
	require.NoError(t, err)
	_, err = b.upload([]byte("never sent"), "a.txt")
	require.NoError(t, err)
	b.advance(23 * time.Hour)
	require.NoError(t, b.here.Sweep(t.Context()))
	require.NoError(t, b.catalog.Sweep(t.Context()))
	require.Equal(t, 8, b.count(`SELECT count(*) FROM objects`))
	b.advance(2 * time.Hour)
	_, err = b.here.Append(t.Context(), b.ana, open.ID, 50, bytes.NewReader(noise(1, 50)))
	require.ErrorIs(t, err, ErrNoUpload)
	require.NoError(t, b.catalog.Sweep(t.Context()))
	require.NoError(t, b.here.Sweep(t.Context()))
	require.Equal(t, 6, b.count(`SELECT count(*) FROM objects`))
	require.Equal(t, 3, b.count(`SELECT count(*) FROM attachments`))
}

// failAt fails at its n-th Put, after it put.
type failAt struct {
	objects.Store
	calls *int
	n     int
}

func (f failAt) Put(ctx context.Context, key string, body io.Reader, size int64, kind string) error {
	err := f.Store.Put(ctx, key, body, size, kind)
	if *f.calls++; *f.calls == f.n {
		return errFaulty
	}
	return err
}

func TestLinks(t *testing.T) {
	b := setup(t, nil, Config{Base: "https://example.org"})
	u, err := b.upload([]byte("hello"), "a.txt")
	require.NoError(t, err)
	_, err = b.attach(b.ana, u.ID)
	require.NoError(t, err)
	link, err := b.here.Link(t.Context(), room, u.ID, false)
	require.NoError(t, err)
	token, ok := strings.CutPrefix(link.URL, "https://example.org/api/v1/files/")
	require.True(t, ok)
	f, err := b.there.Open(t.Context(), token)
	require.NoError(t, err, "any node's")
	require.NoError(t, f.Close())
	for i := range len(token) - 1 { // the last has bits to spare
		forged := []byte(token)
		if forged[i]++; forged[i] == 'z'+1 {
			forged[i] = 'A'
		}
		_, err := b.here.Open(t.Context(), string(forged))
		require.ErrorIs(t, err, ErrNoFile)
	}
	b.advance(5*time.Minute + time.Second)
	_, err = b.here.Open(t.Context(), token)
	require.ErrorIs(t, err, ErrNoFile)
}

func TestImages(t *testing.T) {
	b := setup(t, nil, Config{})
	photo := image.NewRGBA(image.Rect(0, 0, 1000, 500))
	var j bytes.Buffer
	require.NoError(t, jpeg.Encode(&j, photo, nil))
	// It was held upright, and says where.
	exif := "\xff\xe1\x00\x2eExif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00SECRET-PLACE"
	data := append([]byte("\xff\xd8"+exif), j.Bytes()[2:]...)
	data = append(data, "<html><script>SECRET-PLACE</script>"...)
	u, err := b.upload(data, "me.jpg")
	require.NoError(t, err)
	list, err := b.attach(b.ana, u.ID)
	require.NoError(t, err)
	f, got := b.file(u.ID, false)
	require.Equal(t, Attachment{u.ID, "me.jpg", "image/jpeg", int64(len(got)), 500, 1000, true}, list[0])
	require.Equal(t, `inline; filename=me.jpg`, f.Disposition)
	require.NotContains(t, string(got), "SECRET")
	require.NotContains(t, string(got), "<script>")
	f, small := b.file(u.ID, true)
	require.Equal(t, "image/jpeg", f.Type)
	config, err := jpeg.DecodeConfig(bytes.NewReader(small))
	require.NoError(t, err)
	require.Equal(t, [2]int{160, 320}, [2]int{config.Width, config.Height})

	// Broken ones, and those that say more than there is memory.
	var p bytes.Buffer
	require.NoError(t, png.Encode(&p, image.NewGray(image.Rect(0, 0, 100, 100))))
	bomb := bytes.Clone(p.Bytes())
	copy(bomb[16:], "\x00\x01\x00\x00\x00\x01\x00\x00") // 65536 by 65536
	for name, data := range map[string][]byte{"cut off": p.Bytes()[:60], "no header": p.Bytes()[:16], "bomb": bomb} {
		_, err := b.upload(data, name)
		require.ErrorIs(t, err, ErrImage, name)
	}
	require.Equal(t, 1, b.count(`SELECT count(*) FROM attachments`), "they are gone")
	big := append(bytes.Clone(p.Bytes()), make([]byte, maxImage)...)
	u = b.create(int64(len(big)), "big.png")
	for u.Offset < u.Length && err == nil {
		u, err = b.here.Append(t.Context(), b.ana, u.ID, u.Offset, bytes.NewReader(big[u.Offset:min(u.Length, u.Offset+MaxChunk)]))
	}
	require.ErrorIs(t, err, ErrImage)
}

func TestRefusedTypes(t *testing.T) {
	b := setup(t, nil, Config{})
	for _, data := range []string{"<html>", "  <!doctype html>", "<svg xmlns='http://www.w3.org/2000/svg'/>", "<?xml version='1.0'?><svg/>", "MZ\x90\x00", "\x7fELF\x02\x01\x01\x00", "\x00\x01\x02"} {
		_, err := b.upload([]byte(data), "cat.png")
		require.ErrorIs(t, err, ErrType, data)
	}
	// It need not all be there for that.
	u := b.create(50<<20, "x")
	_, err := b.here.Append(t.Context(), b.ana, u.ID, 0, strings.NewReader(strings.Repeat("<html>", 100)))
	require.ErrorIs(t, err, ErrType)
	// Nor does it help to begin with less than says anything.
	u = b.create(600, "x")
	u, err = b.here.Append(t.Context(), b.ana, u.ID, 0, strings.NewReader("<"))
	require.NoError(t, err)
	_, err = b.here.Append(t.Context(), b.ana, u.ID, 1, strings.NewReader("html>"+strings.Repeat("x", 594)))
	require.ErrorIs(t, err, ErrType)
	require.Zero(t, b.count(`SELECT count(*) FROM attachments`))
}

// A chunk that comes late, to an upload that is finished meanwhile and in a message,
// takes nothing away, whatever it has.
func TestRefusedTooLate(t *testing.T) {
	b := setup(t, nil, Config{})
	data := noise(1, 3000)
	page := append([]byte("<!DOCTYPE html><html>"), make([]byte, 2979)...)
	u := b.create(int64(len(page)), "a.png")
	come, gone := io.Pipe()
	late := make(chan error, 1)
	go func() {
		_, err := b.there.Append(b.Context(), b.ana, u.ID, 0, come)
		late <- err
	}()
	_, err := gone.Write(page[:1]) // it has looked at the upload
	require.NoError(t, err)
	good := append([]byte("%PDF-1.7\n"), data[:2991]...)
	_, err = b.here.Append(b.Context(), b.ana, u.ID, 0, bytes.NewReader(good))
	require.NoError(t, err)
	_, err = b.attach(b.ana, u.ID)
	require.NoError(t, err)
	_, err = gone.Write(page[1:])
	require.NoError(t, err)
	require.NoError(t, gone.Close())
	require.Error(t, <-late)
	_, got := b.file(u.ID, false)
	require.Equal(t, good, got)
}
