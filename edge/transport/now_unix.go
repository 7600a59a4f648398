//go:build unix

package transport

import (
	"net"
	"syscall"
)

// now writes to a socket what the kernel takes at once, without a goroutine
// that waits for it: the runtime's sockets don't block. Whoever writes in any
// other way keeps out meanwhile.
type now struct {
	raw syscall.RawConn
	try func(fd uintptr)
	b   []byte // what try writes
	n   int    // what it wrote
}

// nowOf returns nil for a connection that is no socket, such as one of TLS.
func nowOf(c net.Conn) *now {
	s, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil
	}
	w := &now{raw: raw}
	w.try = func(fd uintptr) {
		n, err := syscall.Write(int(fd), w.b)
		for err == syscall.EINTR {
			n, err = syscall.Write(int(fd), w.b)
		}
		w.n = max(0, n)
	}
	return w
}

// write returns how much was written: 0 also if the connection is broken, which
// the next write that waits finds.
func (w *now) write(b []byte) int {
	w.b, w.n = b, 0
	if err := w.raw.Control(w.try); err != nil {
		w.n = 0
	}
	w.b = nil
	return w.n
}
