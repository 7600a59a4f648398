package email_test

import (
	"context"
	"crypto/tls"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/notify"
	"github.com/mustermesh/muster/core/notify/email"
	"github.com/mustermesh/muster/core/notify/smtptest"
)

func start(t *testing.T, o smtptest.Options) *smtptest.Server {
	s, err := smtptest.Start(o, "")
	require.NoError(t, err)
	t.Cleanup(s.Stop)
	return s
}

func channel(t *testing.T, s *email.SMTP) *email.Channel {
	require.NoError(t, s.Check())
	c, err := email.New("Muster <no-reply@muster.test>", s)
	require.NoError(t, err)
	return c
}

func message() notify.Message {
	return notify.Message{ID: uuid.New(), Kind: notify.PasswordChanged, At: time.Now(), Language: "de", Subject: "Schöne Grüße", Brief: "Hällo",
		Text: "Hällo\n\n-- \nMuster\n", HTML: "<p>Hällo</p>"}
}

func to(address string) notify.Address { return notify.Address{ID: "account", To: address} }

func TestWaysToConnect(t *testing.T) {
	for name, c := range map[string]struct {
		server   smtptest.Options
		security email.Security
		user     string
	}{
		"starttls":             {smtptest.Options{}, email.STARTTLS, ""},
		"starttls and sign-in": {smtptest.Options{User: "node", Password: "secret"}, email.STARTTLS, "node"},
		"tls":                  {smtptest.Options{TLS: true}, email.TLS, ""},
		"tls and sign-in":      {smtptest.Options{TLS: true, User: "node", Password: "secret"}, email.TLS, "node"},
		"none":                 {smtptest.Options{}, email.Plain, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, c.server)
			ch := channel(t, &email.SMTP{Addr: s.Addr, Security: c.security, Username: c.user, Password: c.server.Password, TLS: &tls.Config{RootCAs: s.Pool}})
			m := message()
			require.NoError(t, ch.Deliver(t.Context(), to("bob@example.org"), m))
			mails := s.Mails()
			require.Len(t, mails, 1)
			require.Equal(t, m.ID.String()+"@muster.test", mails[0].ID)
			require.Equal(t, "bob@example.org", mails[0].To)
			require.Equal(t, "Schöne Grüße", mails[0].Subject)
			require.Equal(t, c.security != email.Plain, mails[0].TLS)
			require.Equal(t, c.user, mails[0].User)
			require.Equal(t, map[string]string{"text/plain": "Hällo\r\n\r\n-- \r\nMuster\r\n", "text/html": "<p>Hällo</p>"}, parts(t, mails[0].Raw))
		})
	}
	t.Run("a certificate that nobody vouches for", func(t *testing.T) {
		s := start(t, smtptest.Options{})
		err := channel(t, &email.SMTP{Addr: s.Addr}).Deliver(t.Context(), to("bob@example.org"), message())
		require.Error(t, err)
		require.Empty(t, s.Mails())
	})
	t.Run("a server without STARTTLS gets nothing in clear", func(t *testing.T) {
		s := start(t, smtptest.Options{TLS: true})
		err := channel(t, &email.SMTP{Addr: s.Addr, Security: email.Plain, Timeout: time.Second}).Deliver(t.Context(), to("bob@example.org"), message())
		require.Error(t, err)
		require.Empty(t, s.Mails())
	})
}

// parts returns the texts of a mail by type.
func parts(t *testing.T, raw []byte) map[string]string {
	m, err := mail.ReadMessage(strings.NewReader(string(raw)))
	require.NoError(t, err)
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	require.NoError(t, err)
	require.Equal(t, "multipart/alternative", kind)
	require.Equal(t, "auto-generated", m.Header.Get("Auto-Submitted"))
	out := map[string]string{}
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := r.NextRawPart()
		if err == io.EOF {
			return out
		}
		require.NoError(t, err)
		kind, _, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
		require.NoError(t, err)
		require.Equal(t, "quoted-printable", p.Header.Get("Content-Transfer-Encoding"))
		b, err := io.ReadAll(quotedprintable.NewReader(p))
		require.NoError(t, err)
		out[kind] = string(b)
	}
}

// What a refusal means: try again, or never.
func TestRefusals(t *testing.T) {
	s := start(t, smtptest.Options{})
	ch := channel(t, &email.SMTP{Addr: s.Addr, TLS: &tls.Config{RootCAs: s.Pool}})
	deliver := func(b smtptest.Behaviour) (permanent bool, text string) {
		s.Behave(b)
		err := ch.Deliver(t.Context(), to("bob@example.org"), message())
		require.Error(t, err)
		require.NotContains(t, err.Error(), "bob")
		permanent, _ = notify.Advice(err)
		return permanent, err.Error()
	}
	rcpt := func(err error) smtptest.Behaviour {
		return smtptest.Behaviour{Rcpt: func(string) error { return err }}
	}
	data := func(err error, f smtptest.Fault) smtptest.Behaviour {
		return smtptest.Behaviour{Data: func(string) (smtptest.Fault, error) { return f, err }}
	}
	for name, c := range map[string]struct {
		b         smtptest.Behaviour
		permanent bool
		says      string
	}{
		"greylisted":               {rcpt(smtptest.Greylisted), false, "451 4.7.1 to the recipient"},
		"unknown":                  {rcpt(smtptest.Refused), true, "550 5.1.1 to the recipient"},
		"we may not":               {rcpt(smtptest.RelayDenied), false, "550 5.7.1"},
		"busy at the end":          {data(smtptest.Overloaded, smtptest.Fault{}), false, "421"},
		"content refused":          {data(smtptest.Refused, smtptest.Fault{}), true, "550"},
		"broken, not taken":        {data(nil, smtptest.Fault{Drop: true}), false, "broke"},
		"broken after it was read": {data(nil, smtptest.Fault{Cut: true}), false, "broke"},
	} {
		permanent, text := deliver(c.b)
		require.Equal(t, c.permanent, permanent, name)
		require.Contains(t, text, c.says, name)
	}
	mails := s.Mails()
	require.Len(t, mails, 1) // the one that was taken though nobody heard
	require.True(t, mails[0].Lost)
}

// A server that is slower than the node is patient, or that is gone while it
// answers, holds nobody up longer than their context lives.
func TestContextEndsTheConnection(t *testing.T) {
	s := start(t, smtptest.Options{Behaviour: smtptest.Behaviour{Greeting: func() time.Duration { return time.Minute }}})
	ch := channel(t, &email.SMTP{Addr: s.Addr})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	require.Error(t, ch.Deliver(ctx, to("bob@example.org"), message()))
	require.Less(t, time.Since(began), 10*time.Second)
}

func TestWrongConfiguration(t *testing.T) {
	require.Error(t, (&email.SMTP{Addr: "mx.example.org:smtp:25"}).Check())
	require.Error(t, (&email.SMTP{Addr: "mx.example.org", Security: "ssl"}).Check())
	require.NoError(t, (&email.SMTP{Addr: "mx.example.org"}).Check())
	_, err := email.New("Muster", nil)
	require.Error(t, err)
	c := channel(t, &email.SMTP{Addr: "127.0.0.1:1"})
	permanent, _ := notify.Advice(c.Deliver(t.Context(), to("bob@example.org, eve@example.org"), message()))
	require.True(t, permanent)
}
