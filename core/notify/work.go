package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/core/jobs"
)

// The kinds of jobs. What goes by a channel is a kind of its own, so that a slow
// mail server holds up nothing but mails.
const (
	planJob    = "notify"      // decides by which channels, and to where
	deliverJob = "notify."     // and the channel's name: sends one
	mailJob    = "notify_mail" // to an address that need not be a user's
	bulkJob    = "notify_bulk" // makes the notifications of many
)

const (
	// attempts at a delivery: some two days of them, see wait.
	attempts = 56
	planMost = 100 // notifications of a job
	// deliverTime bounds an attempt. A mail server may take half a minute for its
	// greeting alone, and the answer to DATA is worth waiting for: who hangs up
	// before it sends twice (RFC 5321 section 4.5.3.2.6 has ten minutes).
	deliverTime = 5 * time.Minute
	settleTime  = 20 * time.Second
)

// wait is how long after a failed attempt (from 1) the next one comes: from a
// quarter of a minute, doubled up to an hour, with jitter. A mail server that
// does greylisting takes the second or third.
func wait(attempt int) time.Duration {
	d := min(15*time.Second<<min(attempt-1, 8), time.Hour)
	return d - rand.N(d/4)
}

// Handle gives a queue the work of notifications. Call it before the queue
// starts.
func (n *Notifier) Handle(q *jobs.Queue) {
	q.Handle(planJob, jobs.Handler{Do: n.planned})
	q.Handle(bulkJob, jobs.Handler{Do: n.bulk, Workers: 1, Timeout: time.Hour})
	for name, c := range n.channels {
		if _, ok := c.(Transactional); ok {
			continue
		}
		q.Handle(deliverJob+name, jobs.Handler{Timeout: deliverTime + settleTime, Workers: n.cfg.Workers,
			Do: func(ctx context.Context, w jobs.Work) error { return n.deliver(ctx, c, w) }})
	}
	// Without a mail server here, mails wait for a node that has one.
	if c, ok := n.channels[Email]; ok {
		q.Handle(mailJob, jobs.Handler{Timeout: deliverTime + settleTime, Workers: n.cfg.Workers,
			Do: func(ctx context.Context, w jobs.Work) error { return n.mail(ctx, c, w) }})
	}
}

type planPayload struct {
	IDs []uuid.UUID `json:"ids"`
}

type idPayload struct {
	ID uuid.UUID `json:"id"`
}

func (n *Notifier) plan(ctx context.Context, tx pgx.Tx, ids []uuid.UUID) error {
	var list []jobs.Job
	for part := range slices.Chunk(ids, planMost) {
		list = append(list, jobs.Job{Kind: planJob, Payload: planPayload{part}})
	}
	return jobs.Enqueue(ctx, tx, list...)
}

func (n *Notifier) enqueueMail(ctx context.Context, tx pgx.Tx, id uuid.UUID) error {
	return jobs.Enqueue(ctx, tx, jobs.Job{Kind: mailJob, Payload: idPayload{id}, MaxAttempts: attempts})
}

// errNewer is for what a newer version made, during an update: its nodes know what
// to do with it, and get it by and by.
var errNewer = errors.New("this version does not know that kind of notification")

// planned makes the deliveries of notifications.
func (n *Notifier) planned(ctx context.Context, w jobs.Work) error {
	var p planPayload
	if err := w.Decode(&p); err != nil {
		return err
	}
	var failed error
	for _, id := range p.IDs {
		err := n.db.InTx(ctx, pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error { return n.planOne(ctx, tx, id) })
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil { // one keeps no other from being told
			failed = errors.Join(failed, fmt.Errorf("plan notification %s: %w", id, err))
		}
	}
	return failed
}

func (n *Notifier) planOne(ctx context.Context, tx pgx.Tx, id uuid.UUID) error {
	m := Message{Notification: id}
	var data []byte
	err := tx.QueryRow(ctx, `SELECT user_id, kind, data, created_at FROM notifications WHERE id = $1`, id).Scan(&m.User, &m.Kind, &data, &m.At)
	if errors.Is(err, pgx.ErrNoRows) { // with its user, or whom it was about
		return nil
	}
	if err != nil {
		return err
	}
	if _, known := kinds[m.Kind]; !known {
		return errNewer
	}
	if err := json.Unmarshal(data, &m.Data); err != nil {
		return err
	}
	chosen, err := choices(ctx, tx, m.User)
	if err != nil {
		return err
	}
	var list []jobs.Job
	for name, c := range n.channels {
		addresses, err := c.Address(ctx, tx, m.User)
		if err != nil {
			return fmt.Errorf("addresses of %s: %w", name, err)
		}
		now, transactional := c.(Transactional)
		for _, a := range addresses {
			if a.Unproven && !kinds[m.Kind].security {
				continue
			}
			delivery, state := uuid.New(), Queued
			switch {
			case !wanted(m.Kind, name, chosen.of(m.Kind, name)):
				state = Muted
			case transactional:
				state = Sent
			}
			tag, err := tx.Exec(ctx,
				`INSERT INTO notify_deliveries (id, notification_id, channel, address, state, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $6)
				 ON CONFLICT (notification_id, channel, address) DO NOTHING`, delivery, id, name, a.ID, state, n.now())
			if err != nil {
				return err
			}
			switch {
			case tag.RowsAffected() == 0: // it was planned before
			case state == Queued:
				list = append(list, jobs.Job{Kind: deliverJob + name, Payload: idPayload{delivery}, MaxAttempts: attempts, User: m.User})
			case state == Sent:
				m.ID = delivery
				if err := now.DeliverIn(ctx, tx, a, m); err != nil {
					return fmt.Errorf("deliver by %s: %w", name, err)
				}
			}
		}
	}
	return jobs.Enqueue(ctx, tx, list...)
}

// delivery is one with all that is needed to send it.
type delivery struct {
	address  string
	state    State
	read     bool
	settings Settings
	chosen   preferences
	to       Address // zero: gone
	message  Message
	names    map[string]string
}

// kept says where what became of a message is written down.
type kept int

const (
	deliveries kept = iota // notify_deliveries
	mails                  // mails
)

// deliver sends a notification by a channel. It is sent once, unless the node
// ends, or loses the database for long, after the channel took it and before
// that is written down.
func (n *Notifier) deliver(ctx context.Context, c Channel, w jobs.Work) error {
	var p idPayload
	if err := w.Decode(&p); err != nil {
		return err
	}
	d, err := n.read(ctx, c, p.ID)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read delivery: %w", err)
	}
	if _, known := kinds[d.message.Kind]; !known {
		return jobs.Later(errNewer, wait(w.Attempt))
	}
	_, silent := c.(Silent)
	switch quiet := d.settings.over(n.now()); {
	case d.state == Sent || d.state == Muted:
		return nil
	case !wanted(d.message.Kind, c.Name(), d.chosen.of(d.message.Kind, c.Name())):
		return n.settle(ctx, deliveries, p.ID, Muted, "")
	case !silent && d.read && !kinds[d.message.Kind].security:
		return n.settle(ctx, deliveries, p.ID, Muted, "read elsewhere")
	case d.to.ID == "":
		return n.settle(ctx, deliveries, p.ID, Dead, "the address is gone")
	case d.to.Unproven && !kinds[d.message.Kind].security: // it was another when this was planned
		return n.settle(ctx, deliveries, p.ID, Muted, "the address is not confirmed")
	case !silent && !quiet.IsZero() && !kinds[d.message.Kind].security:
		return jobs.Later(nil, quiet.Sub(n.now()))
	}
	if err := n.texts.write(&d.message, d.names); err != nil {
		return jobs.Permanent(err)
	}
	return n.attempt(ctx, c, w, deliveries, d.to, d.message)
}

// attempt sends a message and writes down what became of it.
func (n *Notifier) attempt(ctx context.Context, c Channel, w jobs.Work, kept kept, to Address, m Message) error {
	began := n.cfg.Now()
	sending, cancel := context.WithTimeout(ctx, deliverTime)
	err := c.Deliver(sending, to, m)
	cancel()
	state, detail := Sent, ""
	permanent, asked := Advice(err)
	switch {
	case err == nil:
	case permanent, w.Last && ctx.Err() == nil: // else the node stops, and this was not the last
		state, detail = Dead, err.Error()
	default:
		state, detail = Failed, err.Error()
	}
	n.metrics.observe(c.Name(), state, n.cfg.Now().Sub(began))
	if state == Dead {
		n.cfg.Log.WarnContext(ctx, "somebody was not told", "channel", c.Name(), "kind", m.Kind, "delivery", m.ID, "err", err)
	}
	if settled := n.settle(ctx, kept, m.ID, state, detail); settled != nil {
		return settled
	}
	switch {
	case err == nil, permanent:
		return nil // nothing that an operator could do
	case asked > 0:
		return jobs.Later(err, min(asked, 6*time.Hour))
	}
	return jobs.Later(err, wait(w.Attempt))
}

// settle writes down what became of a delivery. It outlives the job's context:
// what was sent should not be sent again because the node stops just now.
func (n *Notifier) settle(ctx context.Context, kept kept, id uuid.UUID, state State, detail string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	tried := 1
	if state == Muted {
		tried = 0
	}
	err := n.db.InTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(ctx context.Context, tx pgx.Tx) error {
		if kept == mails {
			_, err := tx.Exec(ctx,
				`UPDATE mails SET state = $2, detail = $3, updated_at = $4, attempts = attempts + $5,
				   sealed = CASE WHEN $2 IN ('sent', 'dead') THEN NULL ELSE sealed END WHERE id = $1 AND state <> 'sent'`,
				id, state, cut(detail, 200), n.now(), tried)
			return err
		}
		_, err := tx.Exec(ctx,
			`UPDATE notify_deliveries SET state = $2, detail = $3, updated_at = $4, attempts = attempts + $5 WHERE id = $1 AND state <> 'sent'`,
			id, state, cut(detail, 200), n.now(), tried)
		return err
	})
	if err != nil {
		return fmt.Errorf("write down a delivery: %w", err)
	}
	return nil
}

// cut shortens a text to so many bytes.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "")
}

// read gathers a delivery.
func (n *Notifier) read(ctx context.Context, c Channel, id uuid.UUID) (d delivery, err error) {
	err = n.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		d = delivery{}
		m := &d.message
		var data []byte
		err := q.QueryRow(ctx,
			`SELECT d.address, d.state, n.id, n.user_id, n.kind, n.data, n.created_at, n.read_at IS NOT NULL,
			   coalesce(s.language, ''), coalesce(s.time_zone, ''), coalesce(s.quiet_from, 0), coalesce(s.quiet_until, 0)
			 FROM notify_deliveries d JOIN notifications n ON n.id = d.notification_id LEFT JOIN notify_settings s ON s.user_id = n.user_id
			 WHERE d.id = $1`, id).
			Scan(&d.address, &d.state, &m.Notification, &m.User, &m.Kind, &data, &m.At, &d.read,
				&d.settings.Language, &d.settings.Zone, &d.settings.Quiet.From, &d.settings.Quiet.Until)
		if err != nil {
			return err
		}
		m.ID, m.Language, m.At = id, d.settings.Language, m.At.UTC()
		if err := json.Unmarshal(data, &m.Data); err != nil {
			return err
		}
		m.Link = n.link(m.Data)
		if d.chosen, err = choices(ctx, q, m.User); err != nil {
			return err
		}
		addresses, err := c.Address(ctx, q, m.User)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(addresses, func(a Address) bool { return a.ID == d.address }); i >= 0 {
			d.to = addresses[i]
		}
		d.names, err = names(ctx, q, m.Data)
		return err
	})
	return d, err
}

// link is where a message leads: where its data say, else the web app.
func (n *Notifier) link(data map[string]any) string {
	if s, ok := data["link"].(string); ok {
		return s
	}
	return n.cfg.Base
}

// names looks up what the ids in a notification's data stand for.
func names(ctx context.Context, q db.Querier, data map[string]any) (map[string]string, error) {
	found := map[string]string{}
	for key, query := range map[string]string{
		"user": `SELECT username FROM users WHERE id = $1`, "group": `SELECT name FROM groups WHERE id = $1`,
	} {
		s, _ := data[key+"_id"].(string)
		id, err := uuid.Parse(s)
		if err != nil {
			continue
		}
		var name string
		err = q.QueryRow(ctx, query, id).Scan(&name)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return nil, err
		}
		found[key] = name
	}
	return found, nil
}

// mail sends a mail to an address that need not be a user's.
func (n *Notifier) mail(ctx context.Context, c Channel, w jobs.Work) error {
	var p idPayload
	if err := w.Decode(&p); err != nil {
		return err
	}
	m := Message{ID: p.ID}
	var sealed []byte
	err := n.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		return q.QueryRow(ctx, `SELECT kind, sealed, created_at FROM mails WHERE id = $1`, p.ID).Scan(&m.Kind, &sealed, &m.At)
	})
	if errors.Is(err, pgx.ErrNoRows) || err == nil && sealed == nil { // it was sent, or given up
		return nil
	}
	if err != nil {
		return fmt.Errorf("read mail: %w", err)
	}
	m.At = m.At.UTC()
	clear, err := n.seal.Open(nil, nil, sealed, p.ID[:])
	if err != nil {
		// While the secret is changed there are nodes with either.
		return jobs.Later(errors.New("the mail is sealed under another node secret"), wait(w.Attempt))
	}
	var l letter
	if err := json.Unmarshal(clear, &l); err != nil {
		return jobs.Permanent(err)
	}
	m.Language, m.Data, m.Link = l.Language, l.Data, n.link(l.Data)
	var known map[string]string
	if err := n.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		known, err = names(ctx, q, l.Data)
		return err
	}); err != nil {
		return err
	}
	if err := n.texts.write(&m, known); err != nil {
		return jobs.Permanent(err)
	}
	return n.attempt(ctx, c, w, mails, Address{ID: l.Address, To: l.Address}, m)
}
