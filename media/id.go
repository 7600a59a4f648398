package media

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/mustermesh/muster/api/wire"
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// TrackID names a track of a participant: 12 characters of base62. It follows from
// what it names, so that a participant who goes to another SFU, or comes back, goes on
// under the same names and nobody subscribes anew.
func TrackID(call, user, device string, source wire.CallSource) string {
	h := sha256.New()
	for _, s := range []string{call, user, device} {
		_ = binary.Write(h, binary.BigEndian, uint32(len(s)))
		h.Write([]byte(s))
	}
	h.Write([]byte{byte(source)})
	sum := h.Sum(nil)
	id := make([]byte, 12)
	for i := range id {
		id[i] = base62[binary.BigEndian.Uint16(sum[2*i:])%62]
	}
	return string(id)
}
