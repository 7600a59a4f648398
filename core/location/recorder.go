package location

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/geo/grant"
	"github.com/mustermesh/muster/internal/run"
)

// Recorder writes receipts, private tracks and memories of told cells, many at
// once, behind the back of who reports them: none of its methods blocks. What waits in it is bounded: of
// what comes beyond that nothing is kept, which is counted. What could not be
// written waits for the next time, and Stop writes what is left. It is a
// run.Service.
type Recorder struct {
	store *Store
	log   *slog.Logger
	lost  *prometheus.CounterVec
	life  run.Lifecycle
	full  chan struct{} // holds one if it is time to write

	mu sync.Mutex // guards the following
	pending
}

// pending is what waits to be written.
type pending struct {
	told     map[told]time.Time // until when
	followed map[followed]time.Time
	reads    map[read]*reads
	track    map[second]grant.View // the newest of each
	memories map[core.UserID]memory
}

type told struct {
	subject   core.UserID
	room      string
	precision grant.Precision
	from      time.Time
}

type followed struct {
	room   string
	viewer core.UserID
	from   time.Time
}

type read struct {
	subject   core.UserID
	reader    uuid.UUID
	how       string
	precision grant.Precision
	hour      time.Time
}

type reads struct {
	first, last time.Time
	count       int
}

// second is one of a user's life: their track has one point of it at most.
type second struct {
	user core.UserID
	unix int64
}

// memory is to take the place of the one of that version.
type memory struct {
	version uint64
	sealed  []byte
}

const (
	recordEvery = 5 * time.Second
	recordSoon  = 5_000            // of one kind: then it is written at once
	recordMost  = 50_000           // of one kind, while the database can't be reached
	recordBatch = 1_000            // rows in a statement
	recordLimit = 20 * time.Second // for one
	memorySize  = 10               // rows of other kinds that a memory takes the room of
	maxHow      = 32
)

// NewRecorder returns a Recorder for the rows of s; metrics may be nil.
func NewRecorder(s *Store, log *slog.Logger, metrics prometheus.Registerer) *Recorder {
	r := &Recorder{store: s, log: log, full: make(chan struct{}, 1)}
	r.lost = promauto.With(metrics).NewCounterVec(prometheus.CounterOpts{
		Name: "muster_location_records_lost_total", Help: "Receipts, fixes of private tracks and memories of told cells that there was no room for.",
	}, []string{"kind"})
	r.pending.reset()
	return r
}

func (p *pending) reset() {
	*p = pending{told: map[told]time.Time{}, followed: map[followed]time.Time{}, reads: map[read]*reads{}, track: map[second]grant.View{}, memories: map[core.UserID]memory{}}
}

// Told notes that a room was told where the subject is. The same from is the
// same interval, which only grows.
func (r *Recorder) Told(room string, subject core.UserID, p grant.Precision, from, until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	extend(r, "told", r.told, told{subject, room, p, stored(from)}, until)
}

// Saw notes that somebody heard what was told into a room, likewise.
func (r *Recorder) Saw(room string, viewer core.UserID, from, until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	extend(r, "followed", r.followed, followed{room, viewer, stored(from)}, until)
}

func extend[K comparable](r *Recorder, kind string, m map[K]time.Time, k K, until time.Time) {
	if before, ok := m[k]; ok {
		if until.After(before) {
			m[k] = until
		}
		return
	}
	if r.roomLocked(kind, len(m)) {
		m[k] = until
	}
}

// Read notes that somebody asked for the subject's position and got it; how is a
// short word: group, proximity, nearby, people, link.
func (r *Recorder) Read(viewer, subject core.UserID, how string, p grant.Precision, at time.Time) {
	if viewer != subject {
		r.read(uuid.UUID(viewer), subject, how, p, at)
	}
}

// Opened notes that a link was opened, and how finely it showed the subject.
func (r *Recorder) Opened(l Link, p grant.Precision, at time.Time) {
	r.read(l.ID, l.User, ByLink, p, at)
}

func (r *Recorder) read(reader uuid.UUID, subject core.UserID, how string, p grant.Precision, at time.Time) {
	at = stored(at)
	k := read{subject, reader, how[:min(len(how), maxHow)], p, at.Truncate(time.Hour)}
	r.mu.Lock()
	defer r.mu.Unlock()
	if n, ok := r.reads[k]; ok {
		n.count++
		if at.Before(n.first) {
			n.first = at
		}
		if at.After(n.last) {
			n.last = at
		}
		return
	}
	if r.roomLocked("read", len(r.reads)) {
		r.reads[k] = &reads{at, at, 1}
	}
}

// Keep puts a fix into its user's private track, if there is one. Only the user
// can read it there. Of those of one second the newest is kept.
func (r *Recorder) Keep(user core.UserID, raw grant.Raw) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := grant.Own(raw)
	r.keepLocked(second{user, v.Captured.Unix()}, v)
}

func (r *Recorder) keepLocked(k second, v grant.View) {
	if old, ok := r.track[k]; ok && v.Captured.After(old.Captured) || !ok && r.roomLocked("track", len(r.track)) {
		r.track[k] = v
	}
}

// Remember stores a sealed memory (geo/grant) in place of the one of that version,
// which Sharing returned; 0: of none. If that is not what is stored by then, or
// there is no room, it is left out: who reads what is stored gives theirs again.
func (r *Recorder) Remember(user core.UserID, sealed []byte, version uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.memories[user]; ok || r.roomLocked("memory", memorySize*len(r.memories)) {
		r.memories[user] = memory{version, sealed}
	}
}

// roomLocked reports whether one more can wait beside n of its kind.
func (r *Recorder) roomLocked(kind string, n int) bool {
	if n >= recordSoon {
		select {
		case r.full <- struct{}{}:
		default:
		}
	}
	if n >= recordMost {
		r.lost.WithLabelValues(kind).Inc()
		return false
	}
	return true
}

// Start begins to write now and then.
func (r *Recorder) Start(ctx context.Context) error {
	return r.life.Start(ctx, func(ctx context.Context) error {
		r.life.Go(func() {
			tick := time.NewTicker(recordEvery)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-r.full:
				case <-tick.C:
				}
				r.write(ctx)
				select { // what came while it was written is not worth another round at once
				case <-r.full:
				default:
				}
			}
		})
		return nil
	})
}

// Stop writes what is left, for as long as the database answers. Nothing may be
// noted after it.
func (r *Recorder) Stop() {
	r.life.Stop(nil)
	r.write(context.Background())
}

// write writes all that waits. What fails waits again.
func (r *Recorder) write(ctx context.Context) {
	r.mu.Lock()
	p := r.pending
	r.pending.reset()
	r.mu.Unlock()
	if err := r.store.record(ctx, &p); err != nil {
		r.log.WarnContext(ctx, "receipts, tracks and memories not written, trying again", "err", err)
		r.putBack(p)
	}
}

// putBack takes what could not be written among what came meanwhile.
func (r *Recorder) putBack(p pending) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, until := range p.told {
		extend(r, "told", r.told, k, until)
	}
	for k, until := range p.followed {
		extend(r, "followed", r.followed, k, until)
	}
	for k, n := range p.reads {
		if m, ok := r.reads[k]; ok {
			m.first, m.last, m.count = n.first, maxTime(m.last, n.last), m.count+n.count
		} else if r.roomLocked("read", len(r.reads)) {
			r.reads[k] = n
		}
	}
	for user, m := range p.memories {
		if _, ok := r.memories[user]; !ok && r.roomLocked("memory", memorySize*len(r.memories)) {
			r.memories[user] = m
		}
	}
	for k, v := range p.track {
		r.keepLocked(k, v)
	}
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// record writes what waits, each kind whatever becomes of the others, and takes
// out of p what it has written. Rows go in the order of their keys, so that two
// nodes don't wait for each other crosswise; users that are no more are left out.
func (s *Store) record(ctx context.Context, p *pending) error {
	return errors.Join(
		inBatches(ctx, "who was told of", p.told, func(a, b told) int {
			return cmp.Or(compareIDs(a.subject, b.subject), cmp.Compare(a.room, b.room), cmp.Compare(a.precision, b.precision), a.from.Compare(b.from))
		}, s.recordTold),
		inBatches(ctx, "who followed", p.followed, func(a, b followed) int {
			return cmp.Or(cmp.Compare(a.room, b.room), compareIDs(a.viewer, b.viewer), a.from.Compare(b.from))
		}, s.recordFollowed),
		inBatches(ctx, "who read", p.reads, func(a, b read) int {
			return cmp.Or(compareIDs(a.subject, b.subject), slices.Compare(a.reader[:], b.reader[:]), cmp.Compare(a.how, b.how), cmp.Compare(a.precision, b.precision), a.hour.Compare(b.hour))
		}, s.recordReads),
		inBatches(ctx, "memories", p.memories, compareIDs, s.recordMemories),
		inBatches(ctx, "tracks", p.track, func(a, b second) int {
			return cmp.Or(compareIDs(a.user, b.user), cmp.Compare(a.unix, b.unix))
		}, s.recordTrack),
	)
}

func compareIDs(a, b core.UserID) int { return slices.Compare(a[:], b[:]) }

// inBatches writes the rows of one kind.
func inBatches[K comparable, V any](ctx context.Context, what string, rows map[K]V, compare func(a, b K) int, write func(context.Context, []K, map[K]V) error) error {
	for batch := range slices.Chunk(slices.SortedFunc(maps.Keys(rows), compare), recordBatch) {
		ctx, cancel := context.WithTimeout(ctx, recordLimit)
		err := write(ctx, batch, rows)
		cancel()
		if err != nil {
			return fmt.Errorf("write %s: %w", what, err)
		}
	}
	return nil
}

func (s *Store) recordTold(ctx context.Context, ks []told, until map[told]time.Time) error {
	subjects, rooms, precisions := make([]core.UserID, len(ks)), make([]string, len(ks)), make([]int16, len(ks))
	froms, untils := make([]time.Time, len(ks)), make([]time.Time, len(ks))
	for i, k := range ks {
		subjects[i], rooms[i], precisions[i], froms[i], untils[i] = k.subject, k.room, int16(k.precision), k.from, until[k]
	}
	err := s.exec(ctx,
		`INSERT INTO location_told (subject, room, precision, from_at, until_at)
		   SELECT v.subject, v.room, v.precision, v.from_at, v.until_at
		   FROM unnest($1::UUID[], $2::TEXT[], $3::SMALLINT[], $4::TIMESTAMPTZ[], $5::TIMESTAMPTZ[]) AS v (subject, room, precision, from_at, until_at)
		   JOIN users u ON u.id = v.subject ORDER BY v.subject, v.room, v.precision, v.from_at
		 ON CONFLICT (subject, room, precision, from_at) DO UPDATE SET until_at = greatest(location_told.until_at, excluded.until_at)`,
		subjects, rooms, precisions, froms, untils)
	return written(err, ks, until)
}

func (s *Store) recordFollowed(ctx context.Context, ks []followed, until map[followed]time.Time) error {
	rooms, viewers := make([]string, len(ks)), make([]core.UserID, len(ks))
	froms, untils := make([]time.Time, len(ks)), make([]time.Time, len(ks))
	for i, k := range ks {
		rooms[i], viewers[i], froms[i], untils[i] = k.room, k.viewer, k.from, until[k]
	}
	err := s.exec(ctx,
		`INSERT INTO location_followed (room, viewer, from_at, until_at)
		   SELECT v.room, v.viewer, v.from_at, v.until_at
		   FROM unnest($1::TEXT[], $2::UUID[], $3::TIMESTAMPTZ[], $4::TIMESTAMPTZ[]) AS v (room, viewer, from_at, until_at)
		   JOIN users u ON u.id = v.viewer ORDER BY v.room, v.viewer, v.from_at
		 ON CONFLICT (room, viewer, from_at) DO UPDATE SET until_at = greatest(location_followed.until_at, excluded.until_at)`,
		rooms, viewers, froms, untils)
	return written(err, ks, until)
}

func (s *Store) recordReads(ctx context.Context, ks []read, of map[read]*reads) error {
	subjects, readers, hows, precisions := make([]core.UserID, len(ks)), make([]uuid.UUID, len(ks)), make([]string, len(ks)), make([]int16, len(ks))
	hours, firsts, lasts, counts := make([]time.Time, len(ks)), make([]time.Time, len(ks)), make([]time.Time, len(ks)), make([]int32, len(ks))
	for i, k := range ks {
		n := of[k]
		subjects[i], readers[i], hows[i], precisions[i] = k.subject, k.reader, k.how, int16(k.precision)
		hours[i], firsts[i], lasts[i], counts[i] = k.hour, n.first, n.last, int32(n.count)
	}
	err := s.exec(ctx,
		`INSERT INTO location_reads (subject, reader, how, precision, hour, first_at, last_at, reads)
		   SELECT v.subject, v.reader, v.how, v.precision, v.hour, v.first_at, v.last_at, v.reads
		   FROM unnest($1::UUID[], $2::UUID[], $3::TEXT[], $4::SMALLINT[], $5::TIMESTAMPTZ[], $6::TIMESTAMPTZ[], $7::TIMESTAMPTZ[], $8::INT[])
		     AS v (subject, reader, how, precision, hour, first_at, last_at, reads)
		   JOIN users u ON u.id = v.subject ORDER BY v.subject, v.reader, v.how, v.precision, v.hour
		 ON CONFLICT (subject, reader, how, precision, hour) DO UPDATE SET first_at = least(location_reads.first_at, excluded.first_at),
		   last_at = greatest(location_reads.last_at, excluded.last_at), reads = location_reads.reads + excluded.reads`,
		subjects, readers, hows, precisions, hours, firsts, lasts, counts)
	if errors.Is(err, db.ErrAmbiguous) {
		err = nil // to count a read twice is no better than to miss it; the others bear being repeated
	}
	return written(err, ks, of)
}

// recordMemories stores each memory that is made of the stored one. One that was
// stored in between by another node stays.
func (s *Store) recordMemories(ctx context.Context, users []core.UserID, of map[core.UserID]memory) error {
	versions, sealed := make([]int64, len(users)), make([][]byte, len(users))
	for i, u := range users {
		versions[i], sealed[i] = int64(of[u].version)+1, of[u].sealed
	}
	err := s.exec(ctx,
		`INSERT INTO location_memories (user_id, version, sealed)
		   SELECT v.user_id, v.version, v.sealed
		   FROM unnest($1::UUID[], $2::BIGINT[], $3::BYTEA[]) AS v (user_id, version, sealed)
		   JOIN users u ON u.id = v.user_id ORDER BY v.user_id
		 ON CONFLICT (user_id) DO UPDATE SET version = excluded.version, sealed = excluded.sealed
		 WHERE location_memories.version = excluded.version - 1`, users, versions, sealed)
	return written(err, users, of)
}

// written takes out what need not be written again.
func written[K comparable, V any](err error, ks []K, m map[K]V) error {
	if err != nil {
		return err
	}
	for _, k := range ks {
		delete(m, k)
	}
	return nil
}

func (s *Store) exec(ctx context.Context, sql string, args ...any) error {
	return s.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, sql, args...)
		return err
	})
}
