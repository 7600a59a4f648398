// Package pushtest is a push service and a browser for tests (RFC 8030): it
// refuses what is not signed by the key that was subscribed with (RFC 8292), and
// reads what only the browser can (RFC 8291).
package pushtest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Browser is one subscription.
type Browser struct {
	Endpoint, P256DH, Auth string // what a PushSubscription says

	key  *ecdh.PrivateKey
	auth []byte
}

// Push is a message that was taken.
type Push struct {
	Text    []byte
	Topic   string
	TTL     int
	Contact string
}

// Service is a push service on this machine.
type Service struct {
	*httptest.Server

	mu       sync.Mutex
	browsers map[string]*subscription
	refused  []error
	Answer   func(n int) int // of the n-th push, from 1: a status, 0 to take it; not changed while pushes come
	n        int
}

type subscription struct {
	Browser
	server string // the key that may push, base64url
	pushes []Push
}

// Start starts a service.
func Start() *Service {
	s := &Service{browsers: map[string]*subscription{}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	return s
}

// Subscribe is what a browser does with an applicationServerKey.
func (s *Service) Subscribe(serverKey string) (Browser, error) {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return Browser{}, err
	}
	auth := make([]byte, 16)
	_, _ = rand.Read(auth)
	name := rand.Text()
	b := Browser{
		Endpoint: s.URL + "/push/" + name, P256DH: encode(key.PublicKey().Bytes()), Auth: encode(auth), key: key, auth: auth,
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.browsers[name] = &subscription{Browser: b, server: serverKey}
	return b, nil
}

// Unsubscribe makes the service forget a browser.
func (s *Service) Unsubscribe(b Browser) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.browsers, b.Endpoint[strings.LastIndex(b.Endpoint, "/")+1:])
}

// Pushes returns what a browser got.
func (s *Service) Pushes(b Browser) []Push {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.browsers[b.Endpoint[strings.LastIndex(b.Endpoint, "/")+1:]]; x != nil {
		return slices.Clone(x.pushes)
	}
	return nil
}

// Refused returns why pushes were not taken, beside what Answer said.
func (s *Service) Refused() []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.refused)
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 4097))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	if s.Answer != nil {
		if status := s.Answer(s.n); status != 0 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(status)
			return
		}
	}
	x := s.browsers[strings.TrimPrefix(r.URL.Path, "/push/")]
	if x == nil {
		w.WriteHeader(http.StatusGone)
		return
	}
	var p Push
	if err == nil {
		p, err = s.take(r, x, body)
	}
	if err != nil {
		s.refused = append(s.refused, err)
		w.WriteHeader(http.StatusForbidden)
		return
	}
	x.pushes = append(x.pushes, p)
	w.WriteHeader(http.StatusCreated)
}

func (s *Service) take(r *http.Request, x *subscription, body []byte) (p Push, err error) {
	if len(body) > 4096 {
		return p, errors.New("too long")
	}
	if r.Method != http.MethodPost || r.Header.Get("Content-Encoding") != "aes128gcm" {
		return p, errors.New("no push")
	}
	if p.TTL, err = strconv.Atoi(r.Header.Get("TTL")); err != nil {
		return p, fmt.Errorf("TTL: %w", err)
	}
	if p.Topic = r.Header.Get("Topic"); len(p.Topic) > 32 {
		return p, errors.New("the topic is too long")
	}
	if p.Contact, err = s.vapid(r.Header.Get("Authorization"), x.server); err != nil {
		return p, fmt.Errorf("vapid: %w", err)
	}
	p.Text, err = x.decrypt(body)
	return p, err
}

// vapid checks who pushes (RFC 8292 sections 2 and 3).
func (s *Service) vapid(header, serverKey string) (contact string, err error) {
	rest, ok := strings.CutPrefix(header, "vapid ")
	if !ok {
		return "", errors.New("no such scheme")
	}
	fields := map[string]string{}
	for f := range strings.SplitSeq(rest, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(f), "=")
		fields[k] = v
	}
	if fields["k"] != serverKey {
		return "", errors.New("another key than was subscribed with")
	}
	raw, err := base64.RawURLEncoding.DecodeString(fields["k"])
	if err != nil {
		return "", err
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), raw)
	if err != nil {
		return "", err
	}
	var claims jwt.RegisteredClaims
	_, err = jwt.ParseWithClaims(fields["t"], &claims, func(*jwt.Token) (any, error) { return public, nil },
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithAudience(s.URL), jwt.WithExpirationRequired())
	if err != nil {
		return "", err
	}
	if time.Until(claims.ExpiresAt.Time) > 24*time.Hour {
		return "", errors.New("it holds for too long")
	}
	return claims.Subject, nil
}

// decrypt reads a message (RFC 8291 section 3.4, RFC 8188 section 2).
func (b Browser) decrypt(body []byte) ([]byte, error) {
	if len(body) < 21+65 || body[20] != 65 {
		return nil, errors.New("no header of aes128gcm")
	}
	salt, size, sender, sealed := body[:16], binary.BigEndian.Uint32(body[16:20]), body[21:86], body[86:]
	if uint32(len(sealed)) > size {
		return nil, errors.New("more than one record")
	}
	public, err := ecdh.P256().NewPublicKey(sender)
	if err != nil {
		return nil, err
	}
	shared, err := b.key.ECDH(public)
	if err != nil {
		return nil, err
	}
	info := "WebPush: info\x00" + string(b.key.PublicKey().Bytes()) + string(sender)
	ikm, err := hkdf.Key(sha256.New, shared, b.auth, info, 32)
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: aes128gcm\x00", 16)
	if err != nil {
		return nil, err
	}
	nonce, err := hkdf.Key(sha256.New, ikm, salt, "Content-Encoding: nonce\x00", 12)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	clear, err := gcm.Open(nil, nonce, sealed, nil)
	if err != nil {
		return nil, err
	}
	for i := len(clear) - 1; i >= 0; i-- { // padding, then the delimiter of the last record
		switch clear[i] {
		case 0:
		case 2:
			return clear[:i], nil
		default:
			return nil, errors.New("no delimiter")
		}
	}
	return nil, errors.New("nothing but padding")
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
