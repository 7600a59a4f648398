package local

import (
	"bytes"
	"container/heap"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/stripe/stripe-go/v82"
	"github.com/stripe/stripe-go/v82/webhook"
)

// task is something that happens later.
type task struct {
	at time.Time
	do func()
}

type tasks []task

func (t tasks) Len() int           { return len(t) }
func (t tasks) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t tasks) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *tasks) Push(x any)        { *t = append(*t, x.(task)) }
func (t *tasks) Pop() any {
	old := *t
	x := old[len(old)-1]
	*t = old[:len(old)-1]
	return x
}

// maxTasks bounds what waits: an event beyond is missed, a slow payment stays so until
// the next start.
const maxTasks = 100_000

// later has something done. Called under the lock; do is called without it.
func (s *Server) later(wait time.Duration, do func()) {
	if len(s.tasks) >= maxTasks {
		return
	}
	heap.Push(&s.tasks, task{time.Now().Add(wait), do})
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// atOnce is how many tasks run at a time.
const atOnce = 16

// work does tasks when their time has come.
func (s *Server) work(ctx context.Context) {
	free := make(chan struct{}, atOnce)
	for {
		wait, do := s.due()
		if do != nil {
			select {
			case free <- struct{}{}:
			case <-ctx.Done():
				return
			}
			s.life.Go(func() { do(); <-free })
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-s.woken:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

func (s *Server) due() (wait time.Duration, do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tasks) == 0 {
		return time.Hour, nil
	}
	if wait = time.Until(s.tasks[0].at); wait > 0 {
		return wait, nil
	}
	return 0, heap.Pop(&s.tasks).(task).do
}

// event is something that happened, as it was then.
type event struct {
	ID        string          `json:"id"`
	Object    string          `json:"object"`
	Type      string          `json:"type"`
	Created   int64           `json:"created"`
	Version   string          `json:"api_version"`
	Livemode  bool            `json:"livemode"`
	Pending   int             `json:"pending_webhooks"` // 0: it was taken
	Data      json.RawMessage `json:"data"`
	LastError string          `json:"-"`
}

// tellLocked makes an event of what an object is now, and sends it.
func (s *Server) tellLocked(kind string, object any) {
	data, err := json.Marshal(map[string]any{"object": object})
	if err != nil { // never: they are ours
		panic(fmt.Sprintf("local: %v", err))
	}
	e := &event{ID: s.idLocked("evt"), Object: "event", Type: kind, Created: time.Now().Unix(), Version: stripe.APIVersion, Pending: 1, Data: data}
	if s.Events = append(s.Events, e); len(s.Events) > maxEvents {
		s.Events = s.Events[len(s.Events)-maxEvents:]
	}
	c := s.cfg.Chaos
	if s.cfg.Webhook == "" || s.happensLocked(c.Lose) {
		return
	}
	times := 1
	if s.happensLocked(c.Double) {
		times = 2
	}
	for range times {
		var wait time.Duration
		if c.Delay > 0 {
			wait = time.Duration(s.chaos.Int64N(int64(c.Delay)))
			if s.happensLocked(c.Reorder) {
				wait += c.Delay + time.Duration(s.chaos.Int64N(4*int64(c.Delay)))
			}
		}
		s.later(wait, func() { s.send(e, 1) })
	}
}

// maxSends is how often an event is sent that isn't taken.
const maxSends = 6

func (s *Server) send(e *event, n int) {
	err := s.post(e)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		e.Pending = 0
		s.keepLocked()
		return
	}
	s.cfg.Log.Debug("a payment webhook wasn't taken", "event", e.ID, "kind", e.Type, "err", err)
	if n < maxSends {
		s.later(s.cfg.Resend<<(n-1), func() { s.send(e, n+1) })
	}
}

// post sends an event once. Each time it is signed anew.
func (s *Server) post(e *event) error {
	s.mu.Lock()
	body, err := json.Marshal(e)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodPost, s.cfg.Webhook, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("Stripe-Signature", webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: body, Secret: s.cfg.Secret}).Header)
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}
