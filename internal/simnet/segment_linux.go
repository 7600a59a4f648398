package simnet

import (
	"encoding/binary"
	"syscall"

	"golang.org/x/sys/unix"
)

// segment reads the segment size of a GSO batch from its control messages
// (udp(7), UDP_SEGMENT) and returns the other messages; 0 means no batch.
func segment(oob []byte) (size int, rest []byte) {
	for left := oob; len(left) > 0; {
		if len(left) < unix.SizeofCmsghdr { // which the parser takes for granted
			return 0, oob
		}
		h, body, next, err := unix.ParseOneSocketControlMessage(left)
		if err != nil {
			return 0, oob
		}
		if h.Level == syscall.IPPROTO_UDP && h.Type == unix.UDP_SEGMENT && len(body) >= 2 {
			size = int(binary.NativeEndian.Uint16(body))
		} else {
			rest = append(rest, left[:len(left)-len(next)]...)
		}
		left = next
	}
	return size, rest
}
