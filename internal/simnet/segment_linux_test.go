package simnet

import (
	"encoding/binary"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func controlMessage(level, kind int32, body []byte) []byte {
	b := make([]byte, unix.CmsgSpace(len(body)))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(len(body)))
	copy(b[unix.CmsgSpace(0):], body)
	return b
}

func TestSegmentSizeIsTakenOutOfTheControlMessages(t *testing.T) {
	ecn := controlMessage(syscall.IPPROTO_IP, unix.IP_TOS, []byte{1})
	gso := controlMessage(syscall.IPPROTO_UDP, unix.UDP_SEGMENT, binary.NativeEndian.AppendUint16(nil, 1252))
	size, rest := segment(append(gso, ecn...))
	require.Equal(t, 1252, size)
	require.Equal(t, ecn, rest)
	size, rest = segment(ecn)
	require.Zero(t, size)
	require.Equal(t, ecn, rest)
	size, rest = segment([]byte("nonsense"))
	require.Zero(t, size)
	require.Equal(t, []byte("nonsense"), rest)
}
