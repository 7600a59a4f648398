package peers

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v4"
	"golang.org/x/net/ipv4"
	"golang.org/x/sync/errgroup"
)

// Relayed are allocations of a TURN server, each with a channel to a peer. pion's
// client opens them; the packets then go around it, on its socket.
type Relayed struct {
	server  netip.AddrPort
	members []*relayed
	closing sync.Once
}

type relayed struct {
	tap    *tap
	client *turn.Client
	relay  net.PacketConn
	frame  []byte
}

// tap is the socket that pion's client believes to have: ChannelData is ours.
type tap struct {
	*net.UDPConn
	server  net.Addr
	rest    chan []byte  // what is pion's
	channel atomic.Int32 // that pion sends on; 0: none yet
	got     atomic.Pointer[func(payload []byte)]
	reader  sync.WaitGroup
}

func isChannelData(b []byte) bool { return len(b) >= 4 && b[0]&0xf0 == 0x40 }

func (t *tap) WriteTo(b []byte, to net.Addr) (int, error) {
	if isChannelData(b) {
		t.channel.Store(int32(binary.BigEndian.Uint16(b)))
	}
	return t.UDPConn.WriteTo(b, to)
}

func (t *tap) ReadFrom(b []byte) (int, net.Addr, error) {
	p, ok := <-t.rest
	if !ok {
		return 0, nil, net.ErrClosed
	}
	return copy(b, p), t.server, nil
}

func (t *tap) read() {
	defer close(t.rest)
	Receive(t.UDPConn, 16, func(b []byte, _ netip.AddrPort) {
		if isChannelData(b) {
			if got := t.got.Load(); got != nil {
				(*got)(b[4:])
			}
			return
		}
		select {
		case t.rest <- slices.Clone(b):
		default: // pion asks again
		}
	})
}

func (t *tap) close() {
	_ = t.UDPConn.Close()
	t.reader.Wait()
}

// turnUsers is among how many users allocations are spread.
const turnUsers = 100

// Turn opens n allocations at a server whose credentials are made of secret, with
// channels to the peers in turn.
func Turn(ctx context.Context, server netip.AddrPort, secret string, n int, peer ...net.Addr) (*Relayed, error) {
	r := &Relayed{server: server, members: make([]*relayed, n)}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(openAtOnce)
	for i := range n {
		g.Go(func() (err error) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.members[i], err = openRelayed(server, secret, fmt.Sprintf("bench-%d", i%turnUsers), peer[i%len(peer)])
			return err
		})
	}
	if err := g.Wait(); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func openRelayed(server netip.AddrPort, secret, user string, peer net.Addr) (*relayed, error) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("turn: %w", err)
	}
	_ = conn.SetReadBuffer(1 << 20)
	m := &relayed{tap: &tap{UDPConn: conn, server: net.UDPAddrFromAddrPort(server), rest: make(chan []byte, 16)}}
	m.tap.reader.Go(m.tap.read)
	username, password, err := turn.GenerateLongTermTURNRESTCredentials(secret, user, time.Hour)
	if err != nil {
		return m, err
	}
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	m.client, err = turn.NewClient(&turn.ClientConfig{
		STUNServerAddr: server.String(), TURNServerAddr: server.String(), Conn: m.tap, Username: username, Password: password, LoggerFactory: quiet,
	})
	if err != nil {
		return m, err
	}
	if err := m.client.Listen(); err != nil {
		return m, err
	}
	if m.relay, err = m.client.Allocate(); err != nil {
		return m, err
	}
	// pion binds a channel when something is sent, and uses it once it is bound.
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, err := m.relay.WriteTo([]byte("open"), peer); err != nil {
			return m, err
		}
		if m.tap.channel.Load() != 0 {
			return m, nil
		}
		if time.Now().After(deadline) {
			return m, fmt.Errorf("turn: no channel was bound in 10 s")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Send sends a payload of the n-th allocation's client. It is for one goroutine.
func (r *Relayed) Send(n int, payload []byte) error {
	m := r.members[n]
	m.frame = binary.BigEndian.AppendUint16(m.frame[:0], uint16(m.tap.channel.Load()))
	m.frame = binary.BigEndian.AppendUint16(m.frame, uint16(len(payload)))
	m.frame = append(m.frame, payload...)
	_, err := m.tap.WriteToUDPAddrPort(m.frame, r.server)
	return err
}

// Receive hands over what comes on the channel of the n-th from now on.
func (r *Relayed) Receive(n int, got func(payload []byte)) { r.members[n].tap.got.Store(&got) }

// Receive hands over what comes to a socket, read in batches, until it is closed.
func Receive(c *net.UDPConn, most int, got func(b []byte, from netip.AddrPort)) {
	batch := make([]ipv4.Message, most)
	for i := range batch {
		batch[i].Buffers = [][]byte{make([]byte, 2048)}
	}
	p := ipv4.NewPacketConn(c)
	for {
		n, err := p.ReadBatch(batch, 0)
		if err != nil {
			return
		}
		for _, m := range batch[:n] {
			from, _ := m.Addr.(*net.UDPAddr)
			got(m.Buffers[0][:m.N], from.AddrPort())
		}
	}
}

// Close gives the allocations back.
func (r *Relayed) Close() {
	r.closing.Do(func() {
		var all errgroup.Group
		all.SetLimit(openAtOnce)
		for _, m := range r.members {
			if m == nil {
				continue
			}
			all.Go(func() error {
				if m.relay != nil {
					_ = m.relay.Close()
				}
				if m.client != nil {
					m.client.Close()
				}
				m.tap.close()
				return nil
			})
		}
		_ = all.Wait()
	})
}
