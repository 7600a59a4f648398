package names

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"

	"github.com/mustermesh/muster/bench/loadgen"
)

// load asks one server.
type load struct {
	conns   []*net.UDPConn
	packets [][]byte
}

// count is what became of the queries.
type count struct {
	sent, answers int
	latency       *loadgen.Latencies
}

const (
	different = 4096 // queries, in turn
	batch     = 32   // packets in a system call, at most
	patience  = 100 * time.Millisecond
)

func newLoad(addr string, sockets int) (*load, error) {
	l := &load{}
	r := rand.New(rand.NewPCG(1, 2)) // the same queries for each server
	for range different {
		p, err := query(r).Pack()
		if err != nil {
			return nil, fmt.Errorf("bench: %w", err)
		}
		l.packets = append(l.packets, p)
	}
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	for range sockets {
		c, err := net.DialUDP("udp", nil, to)
		if err != nil {
			l.close()
			return nil, fmt.Errorf("bench: %w", err)
		}
		_ = c.SetReadBuffer(1 << 20)
		l.conns = append(l.conns, c)
	}
	return l, nil
}

func (l *load) close() {
	for _, c := range l.conns {
		_ = c.Close()
	}
}

// query is one as a resolver sends it.
func query(r *rand.Rand) *dns.Msg {
	m := new(dns.Msg)
	name, qtype := zone, dns.TypeA
	switch n := r.IntN(100); {
	case n < 60:
	case n < 75:
		qtype = dns.TypeHTTPS
	case n < 85:
		qtype = dns.TypeAAAA
	case n < 95:
		name = string(places[r.IntN(len(places))].Name) + "." + zone
	default:
		name = fmt.Sprintf("x%d.%s", r.IntN(1000), zone)
	}
	m.SetQuestion(name+".", qtype)
	m.RecursionDesired = false
	m.SetEdns0(1232, r.IntN(2) == 0)
	if r.IntN(2) == 0 {
		ip := net.IPv4(byte(1+r.IntN(222)), byte(r.IntN(256)), byte(r.IntN(256)), 0).To4()
		o := m.IsEdns0()
		o.Option = append(o.Option, &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: ip})
	}
	return m
}

// run asks for so long: rate queries a second over all sockets, or, with 0, a
// new one for each answer, window of them at a time per socket.
func (l *load) run(ctx context.Context, d time.Duration, rate, window int) (count, error) {
	var wg sync.WaitGroup
	counts := make([]count, len(l.conns))
	sum := count{latency: loadgen.NewLatencies()}
	errs := make([]error, len(l.conns))
	for i, c := range l.conns {
		wg.Go(func() {
			a := &asker{conn: c, batch: ipv4.NewPacketConn(c), packets: l.packets, next: i * 997, sum: count{latency: sum.latency}}
			errs[i] = a.run(ctx, d, float64(rate)/float64(len(l.conns)), window)
			counts[i] = a.sum
		})
	}
	wg.Wait()
	for i, c := range counts {
		if errs[i] != nil {
			return sum, errs[i]
		}
		sum.sent, sum.answers = sum.sent+c.sent, sum.answers+c.answers
	}
	return sum, nil
}

// asker is one socket.
type asker struct {
	conn    *net.UDPConn
	batch   *ipv4.PacketConn
	packets [][]byte
	next    int
	id      uint16
	at      [1 << 16]time.Time // when an id was asked; zero: answered
	pending int
	sum     count
}

func (a *asker) run(ctx context.Context, d time.Duration, rate float64, window int) error {
	began := time.Now()
	out, in := make([]ipv4.Message, batch), make([]ipv4.Message, batch)
	for i := range batch {
		out[i].Buffers, in[i].Buffers = [][]byte{make([]byte, 512)}, [][]byte{make([]byte, 2048)}
	}
	for ctx.Err() == nil {
		now := time.Now()
		elapsed := now.Sub(began)
		if elapsed >= d {
			break
		}
		due := window - a.pending
		if rate > 0 {
			due = int(elapsed.Seconds()*rate) - a.sum.sent
		}
		for due > 0 {
			n := min(due, batch)
			if err := a.send(out[:n], now); err != nil {
				return err
			}
			due -= n
		}
		wait := patience
		if rate > 0 {
			wait = time.Millisecond
		}
		if err := a.receive(in, wait); err != nil {
			return err
		}
	}
	for a.pending > 0 {
		before := a.pending
		if err := a.receive(in, patience); err != nil {
			return err
		}
		if a.pending == before {
			break
		}
	}
	return ctx.Err()
}

func (a *asker) send(ms []ipv4.Message, now time.Time) error {
	for i := range ms {
		p := a.packets[a.next%len(a.packets)]
		a.next++
		a.id++
		buf := ms[i].Buffers[0][:len(p)]
		copy(buf, p)
		binary.BigEndian.PutUint16(buf, a.id)
		ms[i].Buffers[0] = buf
		if a.at[a.id].IsZero() {
			a.pending++
		}
		a.at[a.id] = now
	}
	for sent := 0; sent < len(ms); {
		n, err := a.batch.WriteBatch(ms[sent:], 0)
		if err != nil {
			return fmt.Errorf("bench: %w", err)
		}
		sent += n
	}
	a.sum.sent += len(ms)
	return nil
}

// receive takes what is there, or comes within wait; what was not answered by
// then, where nothing came at all, is given up.
func (a *asker) receive(ms []ipv4.Message, wait time.Duration) error {
	_ = a.conn.SetReadDeadline(time.Now().Add(wait))
	n, err := a.batch.ReadBatch(ms, 0)
	if err != nil {
		if e, ok := err.(net.Error); !ok || !e.Timeout() {
			return fmt.Errorf("bench: %w", err)
		}
		if wait == patience {
			a.pending = 0
			clear(a.at[:])
		}
		return nil
	}
	now := time.Now()
	for i := range n {
		b := ms[i].Buffers[0][:ms[i].N]
		if len(b) < 12 || b[2]&0x80 == 0 {
			continue
		}
		id := binary.BigEndian.Uint16(b)
		if at := a.at[id]; !at.IsZero() {
			if a.sum.answers%16 == 0 { // enough, and costs little
				a.sum.latency.Record(now.Sub(at))
			}
			a.at[id] = time.Time{}
			a.pending--
			a.sum.answers++
		}
	}
	return nil
}
