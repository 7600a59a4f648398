package outbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
)

// These have this binary be a node: on which database, where the room is, and
// when it is to die.
const (
	asNode  = "MUSTER_OUTBOX_NODE"
	theRoom = "MUSTER_OUTBOX_ROOM"
	deathAt = "MUSTER_OUTBOX_DEATH"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(asNode); url != "" {
		if err := node(url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// When a node dies.
var deaths = []string{
	"commit", // after the COMMIT, before its relay hears of it
	"before", // when its relay is about to send
	"after",  // when the room has the events, before they are deleted
}

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// far is the room, in another process.
type far struct {
	url   string
	death string
	sends atomic.Int64 // until it dies
}

func (*far) Name() string { return "rooms" }

func (f *far) Send(ctx context.Context, events []Sent) error {
	left := f.sends.Add(-1)
	if left == 0 && f.death == "before" {
		die()
	}
	body, err := json.Marshal(events)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the room says %s", resp.Status)
	}
	if left == 0 && f.death == "after" {
		die()
	}
	return nil
}

// proveKeys is how many rooms there are.
const proveKeys = 5

// node changes things, each with an event of it, and relays; until it dies.
func node(url string) error {
	ctx := context.Background()
	go func() { // it doesn't outlive the test
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	d, err := db.Open(ctx, url, db.Config{MaxConns: 5})
	if err != nil {
		return err
	}
	death := os.Getenv(deathAt)
	sink := &far{url: os.Getenv(theRoom), death: death}
	sink.sends.Store(1 + rand.Int64N(10))
	r := New(d, Config{Sinks: []Sink{sink}, Workers: 1, Poll: 100 * time.Millisecond, Timeout: 500 * time.Millisecond, Lease: time.Second})
	if err := r.Start(ctx); err != nil {
		return err
	}
	for commits := rand.IntN(10); ; commits-- {
		err := d.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
			if commits == 0 && death == "commit" {
				db.AfterCommit(ctx, func(context.Context) { die() }) // before those that Append has
			}
			var events []Event
			for range 1 + rand.IntN(3) {
				id := uuid.New()
				if _, err := tx.Exec(ctx, `INSERT INTO prove_changes (id) VALUES ($1)`, id); err != nil {
					return err
				}
				events = append(events, Event{Key: fmt.Sprintf("group:%d", rand.IntN(proveKeys)), Kind: "changed", Data: map[string]uuid.UUID{"change": id}})
			}
			return Append(ctx, tx, events...)
		})
		if err != nil {
			return err
		}
		time.Sleep(rand.N(20 * time.Millisecond))
	}
}

// room is what hears of the changes.
type room struct {
	mu       sync.Mutex
	problems []string
	last     map[string]int64
	changes  map[string]bool
	again    int
}

func (r *room) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var events []Sent
	if err := json.NewDecoder(req.Body).Decode(&events); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range events {
		var data struct{ Change string }
		if err := json.Unmarshal(e.Data, &data); err != nil {
			r.problems = append(r.problems, err.Error())
		}
		switch {
		case e.N <= r.last[e.Key]: // known
			r.again++
			if !r.changes[data.Change] {
				r.problems = append(r.problems, fmt.Sprintf("%s %d is another event than before", e.Key, e.N))
			}
		case e.N == r.last[e.Key]+1:
			r.last[e.Key], r.changes[data.Change] = e.N, true
		default:
			r.problems = append(r.problems, fmt.Sprintf("%s: %d came after %d", e.Key, e.N, r.last[e.Key]))
		}
	}
}

func begin(t *testing.T, url, room, death string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asNode+"="+url, theRoom+"="+room, deathAt+"="+death)
	cmd.Stderr = os.Stderr
	_, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	return cmd
}

// Two nodes at a time change things and relay, and die at the worst moments. Every
// change that was committed reaches its room, in order.
func TestEveryEventReachesTheRoomWhoeverDies(t *testing.T) {
	kills := 10
	if s := os.Getenv("MUSTER_PROVE_KILLS"); s != "" {
		var err error
		kills, err = strconv.Atoi(s)
		require.NoError(t, err)
	}
	url := devdb.TestURL(t)
	d := devdb.Connect(t, url, db.Config{MaxConns: 4})
	require.NoError(t, d.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `CREATE TABLE prove_changes (id UUID PRIMARY KEY)`)
		return err
	}))
	hears := &room{last: map[string]int64{}, changes: map[string]bool{}}
	server := httptest.NewServer(hears)
	t.Cleanup(server.Close)

	began := time.Now()
	died := map[string]int{}
	var mu sync.Mutex
	left := 2 * kills // half of them elsewhere than between commit and relay
	var nodes sync.WaitGroup
	for range 2 {
		nodes.Go(func() {
			for {
				mu.Lock()
				n := left
				left--
				mu.Unlock()
				if n <= 0 {
					return
				}
				death := deaths[0]
				if n%2 == 0 {
					death = deaths[1+rand.IntN(len(deaths)-1)]
				}
				cmd := begin(t, url, server.URL, death)
				end := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() }) // also a death, if a late one
				err := cmd.Wait()
				end.Stop()
				if state, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !state.Signaled() || state.Signal() != syscall.SIGKILL {
					t.Errorf("a node ended by itself: %v", err)
					return
				}
				mu.Lock()
				died[death]++
				mu.Unlock()
			}
		})
	}
	nodes.Wait()

	// The next one finds what they left.
	r := New(d, Config{Sinks: []Sink{&far{url: server.URL}}, Poll: 50 * time.Millisecond})
	require.NoError(t, r.Start(t.Context()))
	t.Cleanup(r.Stop)
	eventually(t, func() bool { return rows(t, d) == 0 })
	hears.mu.Lock()
	defer hears.mu.Unlock()
	require.Empty(t, hears.problems)
	var changes []string
	last := map[string]int64{}
	require.NoError(t, d.Read(t.Context(), func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, `SELECT id::TEXT FROM prove_changes`)
		if err != nil {
			return err
		}
		if changes, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return err
		}
		if rows, err = q.Query(ctx, `SELECT key, last FROM outbox_keys`); err != nil {
			return err
		}
		var key string
		var n int64
		_, err = pgx.ForEachRow(rows, []any{&key, &n}, func() error { last[key] = n; return nil })
		return err
	}))
	require.Equal(t, last, hears.last)
	require.Len(t, changes, len(hears.changes))
	for _, id := range changes {
		require.True(t, hears.changes[id], "change %s was committed and told to nobody", id)
	}
	t.Logf("%d nodes killed in %.0f s (%v): %d changes in %d rooms, all told in order, %d once more", 2*kills, time.Since(began).Seconds(), died, len(changes), proveKeys, hears.again)
}
