// Package smtptest is a mail server for tests: a real one, on a socket of this
// machine, that is as slow and as unkind as a test wants.
package smtptest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"mime"
	"net"
	"net/mail"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// Mail is one that the server took.
type Mail struct {
	ID, To, Subject string
	Raw             []byte
	TLS             bool   // it came encrypted
	User            string // who had signed in; empty: nobody
	Lost            bool   // the sender did not hear that it was taken
}

// Behaviour is how the server treats a sender. The zero value takes everything at
// once. Its functions are called side by side.
type Behaviour struct {
	Greeting func() time.Duration           // wait before the first word
	Rcpt     func(to string) error          // nil: yes; Greylisted, Refused
	Data     func(to string) (Fault, error) // after the mail was read
}

// Fault is what goes wrong after a mail was read.
type Fault struct {
	Wait time.Duration // before the answer
	// Cut: the mail is taken and the connection breaks before that is said.
	Cut bool
	// Drop: the connection breaks and the mail is not taken.
	Drop bool
}

// Answers of real servers.
var (
	Greylisted  = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "Greylisted, try again later"}
	Refused     = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "User unknown"}
	Overloaded  = &smtp.SMTPError{Code: 421, EnhancedCode: smtp.EnhancedCode{4, 3, 2}, Message: "Too busy"}
	RelayDenied = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "Relaying denied"}
)

// Options say what the server is like.
type Options struct {
	Behaviour
	TLS            bool // from the first byte; else STARTTLS is offered
	User, Password string
}

// Server is a running mail server.
type Server struct {
	Addr string
	Pool *x509.CertPool // that its certificate is checked by

	opt    Options
	server *smtp.Server
	ctx    context.Context // ends waits
	cancel context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex // guards the following
	mails    []Mail
	sessions int
	behave   Behaviour
}

// Start starts a server on a free port of this machine, or on addr.
func Start(opt Options, addr string) (*Server, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	cert, pool, err := certificate()
	if err != nil {
		return nil, err
	}
	s := &Server{Addr: l.Addr().String(), Pool: pool, opt: opt, behave: opt.Behaviour, done: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.server = smtp.NewServer(smtp.BackendFunc(s.session))
	s.server.Domain = "mx.example.test"
	s.server.AllowInsecureAuth = false
	s.server.ErrorLog = quiet{}
	config := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	l = slowListener{l, s}
	if opt.TLS {
		l = tls.NewListener(l, config)
	} else {
		s.server.TLSConfig = config
	}
	go func() {
		defer close(s.done)
		_ = s.server.Serve(l) // until Stop
	}()
	return s, nil
}

// Stop ends the server and its connections.
func (s *Server) Stop() {
	s.cancel()
	_ = s.server.Close()
	<-s.done
}

// Behave changes how the server behaves from now on.
func (s *Server) Behave(b Behaviour) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behave = b
}

func (s *Server) behaviour() Behaviour {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.behave
}

// Mails returns what was taken, in the order in which it was.
func (s *Server) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mails)
}

// Sessions counts the connections that said hello.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}

func (s *Server) wait(d time.Duration) {
	select {
	case <-time.After(d):
	case <-s.ctx.Done():
	}
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

// slowListener's connections wait before their first word.
type slowListener struct {
	net.Listener
	s *Server
}

func (l slowListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &slowConn{Conn: c, s: l.s}, nil
}

type slowConn struct {
	net.Conn
	s    *Server
	once sync.Once
}

func (c *slowConn) Write(p []byte) (int, error) {
	c.once.Do(func() {
		if f := c.s.behaviour().Greeting; f != nil {
			c.s.wait(f())
		}
	})
	return c.Conn.Write(p)
}

type session struct {
	s    *Server
	conn *smtp.Conn
	user string
	to   string
}

func (s *Server) session(c *smtp.Conn) (smtp.Session, error) {
	s.mu.Lock()
	s.sessions++
	s.mu.Unlock()
	return &session{s: s, conn: c}, nil
}

func (x *session) AuthMechanisms() []string {
	if x.s.opt.User == "" {
		return nil
	}
	return []string{sasl.Plain}
}

func (x *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != x.s.opt.User || password != x.s.opt.Password {
			return smtp.ErrAuthFailed
		}
		x.user = user
		return nil
	}), nil
}

func (x *session) Reset()        { x.to = "" }
func (x *session) Logout() error { return nil }

func (x *session) Mail(string, *smtp.MailOptions) error {
	if x.s.opt.User != "" && x.user == "" {
		return smtp.ErrAuthRequired
	}
	return nil
}

func (x *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if f := x.s.behaviour().Rcpt; f != nil {
		if err := f(to); err != nil {
			return err
		}
	}
	x.to = to
	return nil
}

var errBroken = errors.New("connection broke")

func (x *session) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	var fault Fault
	if f := x.s.behaviour().Data; f != nil {
		var answer error
		fault, answer = f(x.to)
		x.s.wait(fault.Wait)
		if answer != nil {
			return answer
		}
	}
	if fault.Drop || x.s.ctx.Err() != nil {
		_ = x.conn.Conn().Close()
		return errBroken
	}
	parsed, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(parsed.Header.Get("Subject"))
	if err != nil {
		return err
	}
	_, encrypted := x.conn.TLSConnectionState()
	x.s.mu.Lock()
	x.s.mails = append(x.s.mails, Mail{ID: strings.Trim(parsed.Header.Get("Message-ID"), "<>"), To: x.to, Subject: subject,
		Raw: raw, TLS: encrypted, User: x.user, Lost: fault.Cut})
	x.s.mu.Unlock()
	if fault.Cut {
		_ = x.conn.Conn().Close()
		return errBroken
	}
	return nil
}

func certificate() (tls.Certificate, *x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mx"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool, nil
}
