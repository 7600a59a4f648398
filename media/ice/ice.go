// Package ice is the lite side of ICE (RFC 8445 section 2.5): it answers the checks of
// clients and never sends one. Bytes in, bytes out; it knows no sockets and no time.
//
// A lite agent has only host candidates at public addresses and is always the
// controlled one. What it has to do is little: check that a request carries the
// credentials of the session, answer it with the address that it came from, and note
// which address the client nominated.
package ice

import (
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"strings"

	"github.com/pion/stun/v3"
)

// Credentials are one side's of a session (RFC 8445 section 5.3).
type Credentials struct {
	Ufrag, Pwd string
}

const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+/"

// New makes credentials: 72 bits in the ufrag, by which connections are found, and 144
// in the password.
func New() Credentials {
	b := make([]byte, 36)
	_, _ = rand.Read(b) // never fails
	for i := range b {
		b[i] = letters[b[i]&63]
	}
	return Credentials{Ufrag: string(b[:12]), Pwd: string(b[12:])}
}

// Valid reports whether they are what RFC 8839 section 5.4 allows.
func (c Credentials) Valid() bool {
	return valid(c.Ufrag, 4) && valid(c.Pwd, 22)
}

func valid(s string, least int) bool {
	if len(s) < least || len(s) > 256 {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '+' && r != '/'
	}) < 0
}

// Is reports whether a datagram is a STUN message (RFC 7983).
func Is(b []byte) bool { return len(b) >= 20 && b[0] < 4 && stun.IsMessage(b) }

// Why a request is not answered. Nothing is sent then: an answer without credentials
// could be used against others.
var (
	ErrNotRequest  = errors.New("ice: not a binding request")
	ErrCredentials = errors.New("ice: wrong credentials")
)

// Request is a check of a client.
type Request struct {
	m             stun.Message
	local, remote string
}

// Parse reads a check. It trusts nothing yet: Local says whose credentials Answer needs.
func Parse(b []byte) (*Request, error) {
	r := &Request{}
	if err := stun.Decode(b, &r.m); err != nil {
		return nil, err
	}
	if r.m.Type != stun.BindingRequest {
		return nil, ErrNotRequest
	}
	var user stun.Username
	if err := user.GetFrom(&r.m); err != nil {
		return nil, err
	}
	local, remote, ok := strings.Cut(string(user), ":")
	if !ok {
		return nil, ErrCredentials
	}
	r.local, r.remote = local, remote
	return r, nil
}

// Local is our ufrag, as the client says; Remote is the client's.
func (r *Request) Local() string  { return r.local }
func (r *Request) Remote() string { return r.remote }

// Answer checks the credentials and makes the response to a request that came from an
// address. nominated: the client chose this pair of addresses. A client that takes
// itself for the controlled one gets an error 487, of which it makes a new request.
func (r *Request) Answer(c Credentials, from netip.AddrPort) (response []byte, nominated bool, err error) {
	if r.local != c.Ufrag {
		return nil, false, ErrCredentials
	}
	integrity := stun.NewShortTermIntegrity(c.Pwd)
	if err := integrity.Check(&r.m); err != nil {
		return nil, false, ErrCredentials
	}
	if r.m.Contains(stun.AttrICEControlled) {
		m, err := stun.Build(stun.NewTransactionIDSetter(r.m.TransactionID), stun.BindingError, stun.CodeRoleConflict, integrity, stun.Fingerprint)
		if err != nil {
			return nil, false, err
		}
		return m.Raw, false, nil
	}
	m, err := stun.Build(stun.NewTransactionIDSetter(r.m.TransactionID), stun.BindingSuccess,
		&stun.XORMappedAddress{IP: net.IP(from.Addr().AsSlice()), Port: int(from.Port())}, integrity, stun.Fingerprint)
	if err != nil {
		return nil, false, err
	}
	return m.Raw, r.m.Contains(stun.AttrUseCandidate), nil
}
