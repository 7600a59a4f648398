// Package googletest is Google for tests: an OpenID provider that speaks discovery,
// the authorization endpoint with PKCE, the token endpoint and its keys over real
// HTTP on loopback, checks what it is sent as strictly as the real one, and fails
// in the ways that the real one can, or that somebody between could make it.
package googletest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
)

// What the deployment under test is registered as.
const (
	ClientID     = "muster.apps.example"
	ClientSecret = "a secret that Google gave"
	RedirectURL  = "https://app.example.org/signin/google"
)

// Person is an account at Google.
type Person struct {
	Subject, Email, Name string
	Unverified           bool
}

// Fail is how it fails.
type Fail struct {
	Discovery, Token, Keys int // HTTP statuses to answer with instead
	TokenError             string
	Deny                   bool // the person says no
	NoIDToken              bool
	Claims                 func(jwt.MapClaims)
	// Sign replaces the signature: the whole ID token of these claims.
	Sign func(jwt.MapClaims) string
}

// Server is the provider. It is safe for concurrent use.
type Server struct {
	URL    string // the issuer
	Client *http.Client

	mu    sync.Mutex // guards the following
	now   func() time.Time
	keys  []key // the newest last
	codes map[string]grant
	fail  Fail
	asked map[string]int // requests by path
}

type key struct {
	id      string
	private *rsa.PrivateKey
}

// grant is what a code stands for.
type grant struct {
	person           Person
	challenge, nonce string
	redirect         string
	expires          time.Time
}

// New starts a provider; now is its clock.
func New(t testing.TB, now func() time.Time) *Server {
	s := &Server{now: now, codes: map[string]grant{}, asked: map[string]int{}}
	s.Rotate(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", s.discovery)
	mux.HandleFunc("POST /token", s.token)
	mux.HandleFunc("GET /certs", s.certs)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked[r.URL.Path]++
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.URL, s.Client = server.URL, server.Client()
	return s
}

// Rotate makes a new key; tokens are signed with it from now on, and the one
// before is shown until the next rotation.
func (s *Server) Rotate(t testing.TB) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append(s.keys, key{rand.Text(), private})
	s.keys = s.keys[max(0, len(s.keys)-2):]
}

// Fail makes it fail from now on; the zero value heals it.
func (s *Server) Fail(f Fail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = f
}

// Asked returns how often a path was asked for.
func (s *Server) Asked(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[path]
}

// SignIn is what happens in the person's browser: it opens the URL, the person
// agrees, and the redirect carries a code and the state back.
func (s *Server) SignIn(t testing.TB, authorize string, who Person) (code, state string) {
	back := s.Visit(t, authorize, who)
	require.Empty(t, back.Get("error"))
	return back.Get("code"), back.Get("state")
}

// Visit is SignIn that may fail: it returns the redirect's parameters.
func (s *Server) Visit(t testing.TB, authorize string, who Person) url.Values {
	u, err := url.Parse(authorize)
	require.NoError(t, err)
	require.Equal(t, s.URL+"/auth", u.Scheme+"://"+u.Host+u.Path)
	q := u.Query()
	require.Equal(t, ClientID, q.Get("client_id"))
	require.Equal(t, RedirectURL, q.Get("redirect_uri"), "only registered pages")
	require.Equal(t, "code", q.Get("response_type"))
	require.Subset(t, strings.Fields(q.Get("scope")), []string{"openid", "email"})
	require.Equal(t, "S256", q.Get("code_challenge_method"))
	require.Len(t, q.Get("code_challenge"), 43)
	require.NotEmpty(t, q.Get("state"))
	require.NotEmpty(t, q.Get("nonce"))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail.Deny {
		return url.Values{"error": {"access_denied"}, "state": q["state"]}
	}
	code := "4/" + rand.Text()
	s.codes[code] = grant{who, q.Get("code_challenge"), q.Get("nonce"), q.Get("redirect_uri"), s.now().Add(time.Minute)}
	return url.Values{"code": {code}, "state": q["state"]}
}

func (s *Server) discovery(w http.ResponseWriter, _ *http.Request) {
	if fails(w, s.fail.Discovery) {
		return
	}
	answer(w, http.StatusOK, map[string]any{
		"issuer": s.URL, "authorization_endpoint": s.URL + "/auth", "token_endpoint": s.URL + "/token", "jwks_uri": s.URL + "/certs",
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": []string{"RS256"}, "code_challenge_methods_supported": []string{"S256"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_post", "client_secret_basic"},
	})
}

func (s *Server) certs(w http.ResponseWriter, _ *http.Request) {
	if fails(w, s.fail.Keys) {
		return
	}
	set := []map[string]string{}
	for _, k := range s.keys {
		e := big.NewInt(int64(k.private.E)).Bytes()
		set = append(set, map[string]string{
			"kty": "RSA", "use": "sig", "alg": "RS256", "kid": k.id,
			"n": base64.RawURLEncoding.EncodeToString(k.private.N.Bytes()), "e": base64.RawURLEncoding.EncodeToString(e),
		})
	}
	answer(w, http.StatusOK, map[string]any{"keys": set})
}

func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	if fails(w, s.fail.Token) {
		return
	}
	if s.fail.TokenError != "" {
		answer(w, http.StatusBadRequest, map[string]string{"error": s.fail.TokenError})
		return
	}
	id, secret, basic := r.BasicAuth()
	if basic { // RFC 6749 section 2.3.1: form encoded
		id, _ = url.QueryUnescape(id)
		secret, _ = url.QueryUnescape(secret)
	} else {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	if id != ClientID || subtle.ConstantTimeCompare([]byte(secret), []byte(ClientSecret)) != 1 {
		answer(w, http.StatusUnauthorized, map[string]string{"error": "invalid_client"})
		return
	}
	if r.PostFormValue("grant_type") != "authorization_code" {
		answer(w, http.StatusBadRequest, map[string]string{"error": "unsupported_grant_type"})
		return
	}
	code := r.PostFormValue("code")
	g, ok := s.codes[code]
	delete(s.codes, code) // whatever comes of it: good once
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if !ok || !s.now().Before(g.expires) || r.PostFormValue("redirect_uri") != g.redirect ||
		base64.RawURLEncoding.EncodeToString(sum[:]) != g.challenge {
		answer(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant", "error_description": "Bad Request"})
		return
	}
	access := "ya29." + rand.Text()
	half := sha256.Sum256([]byte(access))
	claims := jwt.MapClaims{
		"iss": s.URL, "azp": ClientID, "aud": ClientID, "sub": g.person.Subject, "email": g.person.Email, "email_verified": !g.person.Unverified,
		"name": g.person.Name, "nonce": g.nonce, "at_hash": base64.RawURLEncoding.EncodeToString(half[:16]),
		"iat": s.now().Unix(), "exp": s.now().Add(time.Hour).Unix(),
	}
	if s.fail.Claims != nil {
		s.fail.Claims(claims)
	}
	body := map[string]any{"access_token": access, "expires_in": 3599, "token_type": "Bearer", "scope": "openid email profile"}
	switch {
	case s.fail.NoIDToken:
	case s.fail.Sign != nil:
		body["id_token"] = s.fail.Sign(claims)
	default:
		k := s.keys[len(s.keys)-1]
		body["id_token"] = Sign(claims, k.id, k.private)
	}
	answer(w, http.StatusOK, body)
}

// KeyID is the id of the key that signs.
func (s *Server) KeyID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[len(s.keys)-1].id
}

// PublicKey is the public part of the key that signs.
func (s *Server) PublicKey() *rsa.PublicKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &s.keys[len(s.keys)-1].private.PublicKey
}

// Sign returns an ID token by RS256, as Google signs.
func Sign(claims jwt.MapClaims, kid string, private *rsa.PrivateKey) string {
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
	t.Header["kid"] = kid
	signed, err := t.SignedString(private)
	if err != nil {
		panic(err) // claims that aren't JSON: a mistake of the test
	}
	return signed
}

func fails(w http.ResponseWriter, status int) bool {
	if status != 0 {
		w.WriteHeader(status)
	}
	return status != 0
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may have gone
}
