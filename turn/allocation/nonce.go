package allocation

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"time"
)

// nonceLife is how long a nonce is good for (RFC 8656 section 5: at most an hour).
const nonceLife = time.Hour

// nonceSize is that of a nonce as it is sent: 4 bytes of time and 8 of the code, in
// base64. It is short because what is answered to strangers is.
const nonceSize = 16

// nonces makes and checks nonces without keeping them.
type nonces struct{ key [32]byte }

func newNonces() *nonces {
	n := &nonces{}
	_, _ = rand.Read(n.key[:]) // never fails
	return n
}

func (n *nonces) make(now time.Time, client netip.AddrPort) (nonce [nonceSize]byte) {
	return n.at(uint32(now.Unix()), client)
}

func (n *nonces) at(seconds uint32, client netip.AddrPort) (nonce [nonceSize]byte) {
	var text [4 + 16 + 2]byte
	binary.BigEndian.PutUint32(text[:], seconds)
	ip := client.Addr().As16()
	copy(text[4:], ip[:])
	binary.BigEndian.PutUint16(text[20:], client.Port())
	h := hmac.New(sha256.New, n.key[:])
	h.Write(text[:])
	var sum [sha256.Size]byte
	base64.RawURLEncoding.Encode(nonce[:], append(text[:4:4], h.Sum(sum[:0])[:8]...))
	return nonce
}

// known reports whether a nonce was made here for this client, and fresh whether not
// too long ago.
func (n *nonces) check(now time.Time, client netip.AddrPort, nonce []byte) (known, fresh bool) {
	var raw [12]byte
	if len(nonce) != nonceSize {
		return false, false
	}
	if _, err := base64.RawURLEncoding.Decode(raw[:], nonce); err != nil {
		return false, false
	}
	seconds := binary.BigEndian.Uint32(raw[:])
	want := n.at(seconds, client)
	if !hmac.Equal(want[:], nonce) {
		return false, false
	}
	age := now.Sub(time.Unix(int64(seconds), 0))
	return true, age >= -time.Minute && age < nonceLife
}
