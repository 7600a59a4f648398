//go:build unix

package devdb

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync/atomic"
)

// Cut says where a connection to the database breaks.
type Cut int

const (
	// Spare lets the data pass.
	Spare Cut = iota
	// CutUnsent breaks the connection before the data leaves, and the writer
	// can tell.
	CutUnsent
	// CutLost breaks the connection after the data has left and before it
	// arrives: the server never sees it, and the writer can't tell.
	CutLost
	// CutAnswered delivers the data, waits until the server has answered, and
	// breaks the connection instead of passing the answer on: what was asked
	// for has happened and nobody was told.
	CutAnswered
)

// Faults breaks connections, for tests; its Dial goes into db.Config.
type Faults struct {
	// Decide is asked about everything that is written to the server, from
	// many goroutines at once; commit is true for a COMMIT.
	Decide func(commit bool) Cut

	cuts atomic.Int64
}

// Cuts returns how many connections were broken.
func (f *Faults) Cuts() int64 { return f.cuts.Load() }

// Dial is net.Dialer.DialContext with faults.
func (f *Faults) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &faultyConn{Conn: c, faults: f}, nil
}

type faultyConn struct {
	net.Conn
	faults  *Faults
	commit  string      // the name of the prepared statement that is a COMMIT
	swallow atomic.Bool // the next answer
}

func (c *faultyConn) Write(p []byte) (int, error) {
	switch c.faults.Decide(c.commits(p)) {
	case CutUnsent:
		c.cut()
		return 0, io.ErrClosedPipe
	case CutLost:
		c.cut()
		return len(p), nil
	case CutAnswered:
		c.swallow.Store(true)
	}
	return c.Conn.Write(p)
}

// commits reports whether whole messages of PostgreSQL's protocol, which is
// what pgx writes at a time, run a COMMIT: as a simple query, or as a prepared
// statement.
func (c *faultyConn) commits(p []byte) (found bool) {
	const query, parse, bind = 'Q', 'P', 'B' // manual, "Message Formats"
	for len(p) >= 5 && p[0] != 0 {           // what opens a connection has no type
		size := 1 + int(binary.BigEndian.Uint32(p[1:]))
		if size < 5 || size > len(p) {
			break
		}
		texts := strings.SplitN(string(p[5:size]), "\x00", 3)
		switch {
		case p[0] == query && strings.EqualFold(texts[0], "commit"):
			found = true
		case p[0] == parse && strings.EqualFold(texts[1], "commit"):
			c.commit = texts[0]
		case p[0] == bind && c.commit != "" && texts[1] == c.commit: // texts[0] is the portal
			found = true
		}
		p = p[size:]
	}
	return found
}

func (c *faultyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.swallow.Load() {
		c.cut()
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

func (c *faultyConn) cut() {
	c.faults.cuts.Add(1)
	_ = c.Close()
}
