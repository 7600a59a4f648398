package notify_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	osexec "os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/db/devdb"
	"github.com/mustermesh/muster/core/jobs"
	"github.com/mustermesh/muster/core/notify"
	"github.com/mustermesh/muster/core/notify/email"
	"github.com/mustermesh/muster/core/notify/inapp"
	"github.com/mustermesh/muster/core/notify/smtptest"
)

// asWorker has this binary be a node that sends, on the database that it names,
// by the mail server that the other one names.
const (
	asWorker  = "MUSTER_NOTIFY_WORKER"
	theServer = "MUSTER_NOTIFY_SMTP"
	works     = "works" // is what it says when it does
)

func TestMain(m *testing.M) {
	if url := os.Getenv(asWorker); url != "" {
		if err := worker(url, os.Getenv(theServer)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func worker(url, server string) error {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	go func() { // it doesn't outlive the test
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	d, err := db.Open(ctx, url, db.Config{MaxConns: 6})
	if err != nil {
		return err
	}
	defer d.Close()
	mails, err := email.New("no-reply@muster.test", &email.SMTP{Addr: server, Security: email.Plain})
	if err != nil {
		return err
	}
	n, err := notify.New(d, secret, notify.Config{Channels: []notify.Channel{mails, inapp.New(d, time.Now)}})
	if err != nil {
		return err
	}
	q := jobs.New(d, jobs.Config{Lease: 2 * time.Second, Poll: 200 * time.Millisecond, Log: slog.New(slog.DiscardHandler)})
	n.Handle(q)
	if err := q.Start(ctx); err != nil {
		return err
	}
	fmt.Print(works)
	<-ctx.Done()
	q.Stop()
	return nil
}

// begin starts such a process and waits until it works. It ends with the test:
// nobody holds its stdin open then.
func begin(t *testing.T, url, server string) *osexec.Cmd {
	t.Helper()
	cmd := osexec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asWorker+"="+url, theServer+"="+server)
	cmd.Stderr = os.Stderr
	_, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	_, err = io.ReadFull(out, make([]byte, len(works)))
	require.NoError(t, err, "a worker did not start")
	return cmd
}

func fromEnv(t *testing.T, name string, otherwise int) int {
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	require.NoError(t, err, name)
	return n
}

// Two nodes that send are killed over and over. Nobody's mail is lost, everybody
// has one notification, and who gets a mail twice gets it under one Message-ID:
// the server had just taken it when the node died.
func TestKilledNodesLoseNothing(t *testing.T) {
	people, kills := fromEnv(t, "MUSTER_PROVE_MAILS", 150), fromEnv(t, "MUSTER_PROVE_KILLS", 4)
	server, err := smtptest.Start(smtptest.Options{Behaviour: smtptest.Behaviour{
		Data: func(string) (smtptest.Fault, error) { return smtptest.Fault{Wait: rand.N(60 * time.Millisecond)}, nil },
	}}, "")
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	url := devdb.TestURL(t)
	b := &bundle{t: t, db: devdb.Connect(t, url, db.Config{}), smtp: server, pager: &pager{}}
	n, err := notify.New(b.db, secret, notify.Config{}) // enqueues, sends nothing
	require.NoError(t, err)
	b.Notifier = n

	nodes := []*osexec.Cmd{begin(t, url, server.Addr), begin(t, url, server.Addr)}
	for i := range people {
		user := b.user(fmt.Sprintf("u%d", i))
		b.tx(func(ctx context.Context, tx pgx.Tx) error {
			if err := b.Notify(ctx, tx, user, notify.ExportReady, nil); err != nil {
				return err
			}
			return b.Mail(ctx, tx, fmt.Sprintf("m%d@example.org", i), "en", notify.AccountDeleted, nil)
		})
		if kills > 0 && i%(people/kills) == people/kills-1 {
			victim := rand.IntN(len(nodes))
			require.NoError(t, nodes[victim].Process.Kill())
			_ = nodes[victim].Wait()
			nodes[victim] = begin(t, url, server.Addr)
		}
	}
	require.Eventually(t, func() bool {
		return b.count(`SELECT count(*) FROM mails WHERE state = 'sent'`) == people &&
			b.count(`SELECT count(*) FROM notify_deliveries WHERE state = 'sent'`) == 2*people && b.count(`SELECT count(*) FROM jobs`) == 0
	}, time.Minute, 50*time.Millisecond)

	require.Equal(t, people, b.count(`SELECT count(*) FROM notifications WHERE shown_at IS NOT NULL`))
	ids, to := map[string]int{}, map[string]map[string]bool{}
	again := 0
	for _, m := range server.Mails() {
		if ids[m.ID]++; ids[m.ID] > 1 {
			again++
		}
		if to[m.To] == nil {
			to[m.To] = map[string]bool{}
		}
		to[m.To][m.ID] = true
	}
	require.Len(t, to, 2*people)
	require.Len(t, ids, 2*people, "one Message-ID for each recipient")
	require.LessOrEqual(t, again, kills*32, "no more than were in flight on a node that was killed")
	t.Logf("%d mails and %d notifications in the app, %d kills: none lost, %d mails arrived again", 2*people, people, kills, again)
}
