package session

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/mustermesh/muster/regions"
)

// ticket is what a node vouches for to any other node, and to itself after a
// restart: this device had a session under this epoch. It is no credential, the
// hello brings an access token too. It makes a resume safe where the epoch can't
// be known otherwise: a client's own word is believed up to a day ahead of the
// clock only, a ticket's always.
//
// Sealed: version 1, epoch, time of issue, region, user, device (numbers as
// varints, strings with their length in front), then HMAC-SHA256 (RFC 2104) of
// all that.
type ticket struct {
	epoch                regions.Epoch
	issued               time.Time
	region, user, device string
}

const (
	ticketVersion = 1
	ticketFor     = 24 * time.Hour // either way, since clocks differ
	maxTicket     = 512
)

var errTicket = errors.New("bad ticket")

func (t *ticket) seal(key []byte) []byte {
	b := make([]byte, 0, 40+len(t.region)+len(t.user)+len(t.device)+sha256.Size)
	b = append(b, ticketVersion)
	b = binary.AppendUvarint(b, uint64(t.epoch))
	b = binary.AppendVarint(b, t.issued.UnixMilli())
	for _, v := range []string{t.region, t.user, t.device} {
		b = append(binary.AppendUvarint(b, uint64(len(v))), v...)
	}
	return append(b, ticketMAC(key, b)...)
}

func ticketMAC(key, body []byte) []byte {
	h := hmac.New(sha256.New, key)
	_, _ = h.Write(body) // a hash takes everything
	return h.Sum(nil)
}

// unseal checks a ticket's signature and age.
func unseal(key, b []byte, now time.Time) (*ticket, error) {
	n := len(b) - sha256.Size
	if n < 1 || len(b) > maxTicket || !hmac.Equal(b[n:], ticketMAC(key, b[:n])) {
		return nil, fmt.Errorf("%w: forged", errTicket)
	}
	if b[0] != ticketVersion {
		return nil, fmt.Errorf("%w: version %d", errTicket, b[0])
	}
	t := &ticket{}
	if !t.read(b[1:n]) {
		return nil, fmt.Errorf("%w: garbled", errTicket)
	}
	if age := now.Sub(t.issued); age > ticketFor || age < -ticketFor {
		return nil, fmt.Errorf("%w: of %s", errTicket, t.issued)
	}
	return t, nil
}

func (t *ticket) read(b []byte) bool {
	epoch, n := binary.Uvarint(b)
	if n <= 0 {
		return false
	}
	b = b[n:]
	issued, n := binary.Varint(b)
	if n <= 0 {
		return false
	}
	b = b[n:]
	t.epoch, t.issued = regions.Epoch(epoch), time.UnixMilli(issued)
	for _, v := range []*string{&t.region, &t.user, &t.device} {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return false
		}
		*v, b = string(b[n:n+int(size)]), b[n+int(size):]
	}
	return len(b) == 0
}
