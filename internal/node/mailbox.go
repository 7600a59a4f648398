package node

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"html/template"
	"mime"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wneessen/go-mail"
)

// mailbox takes the mails of `muster dev`, so that it needs no mail server: they
// are shown at /dev/mail, to this machine only, and gone when the process ends.
// It is an email.Sender.
type mailbox struct {
	mu    sync.Mutex // guards mails
	mails []devMail  // the oldest first
}

// devMail is one, as /dev/mail.json shows it.
type devMail struct {
	ID      string    `json:"id"`
	To      string    `json:"to"`
	Subject string    `json:"subject"`
	At      time.Time `json:"at"`
	Text    string    `json:"text"`
	HTML    string    `json:"html"`
}

const mailboxMost = 500 // the oldest go

// Send keeps a mail.
func (b *mailbox) Send(_ context.Context, m *mail.Msg) error {
	d := devMail{ID: strings.Trim(m.GetMessageID(), "<>"), At: time.Now().UTC()}
	for _, a := range m.GetTo() {
		d.To = a.Address
	}
	if s := m.GetGenHeader(mail.HeaderSubject); len(s) > 0 {
		subject, err := new(mime.WordDecoder).DecodeHeader(s[0])
		if err != nil {
			return fmt.Errorf("mailbox: %w", err)
		}
		d.Subject = subject
	}
	for _, p := range m.GetParts() {
		content, err := p.GetContent()
		if err != nil {
			return fmt.Errorf("mailbox: %w", err)
		}
		switch p.GetContentType() {
		case mail.TypeTextPlain:
			d.Text = string(content)
		case mail.TypeTextHTML:
			d.HTML = string(content)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mails = slices.DeleteFunc(b.mails, func(x devMail) bool { return x.ID == d.ID }) // sent again
	b.mails = append(b.mails, d)
	b.mails = b.mails[max(0, len(b.mails)-mailboxMost):]
	return nil
}

// list returns the mails, the newest first; to is an address, or empty for all.
func (b *mailbox) list(to string) []devMail {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := []devMail{}
	for _, m := range slices.Backward(b.mails) {
		if to == "" || strings.EqualFold(m.To, to) {
			out = append(out, m)
		}
	}
	return out
}

var mailboxPage = template.Must(template.New("mailbox").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark"><title>Mails</title></head>
<body style="font:16px/1.5 system-ui,sans-serif;max-width:720px;margin:24px auto;padding:0 16px">
<h1 style="font-size:20px">Mails</h1>
{{range .}}<p><a href="/dev/mail/{{.ID}}">{{.Subject}}</a><br><small>to {{.To}}, {{.At.Format "15:04:05"}} UTC</small></p>
{{else}}<p>None yet. What would be mailed appears here.</p>{{end}}
</body></html>
`))

// handler shows the mails: /dev/mail, /dev/mail/{id}, and /dev/mail.json?to= for
// programs.
func (b *mailbox) handler() http.Handler {
	mux := http.NewServeMux()
	// Nothing that a mail holds may run in the app's origin.
	guard := func(w http.ResponseWriter, kind, policy string) {
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Content-Security-Policy", cmp.Or(policy, "default-src 'none'; style-src 'unsafe-inline'"))
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("Cache-Control", "no-store")
	}
	mux.HandleFunc("GET /dev/mail", func(w http.ResponseWriter, _ *http.Request) {
		guard(w, "text/html; charset=utf-8", "")
		_ = mailboxPage.Execute(w, b.list("")) // the browser may have gone
	})
	mux.HandleFunc("GET /dev/mail.json", func(w http.ResponseWriter, r *http.Request) {
		guard(w, "application/json", "")
		_ = json.NewEncoder(w).Encode(b.list(r.URL.Query().Get("to")))
	})
	mux.HandleFunc("GET /dev/mail/{id}", func(w http.ResponseWriter, r *http.Request) {
		for _, m := range b.list("") {
			if m.ID == r.PathValue("id") {
				guard(w, "text/html; charset=utf-8", "sandbox allow-top-navigation-by-user-activation; default-src 'none'; style-src 'unsafe-inline'")
				_, _ = w.Write([]byte(m.HTML))
				return
			}
		}
		http.NotFound(w, r)
	})
	return mux
}
