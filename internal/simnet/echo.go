package simnet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"
)

// Echo measures the bare emulated link: it sends count small packets from a
// socket in one region to one in the other, one per interval, has them sent
// back, and returns the round-trip times of those that returned within 2 s.
// What a product adds to a link is its own figure less this one, taken in the
// same run.
func (n *Network) Echo(ctx context.Context, from, to string, count int, interval time.Duration) ([]time.Duration, error) {
	server, err := n.listen(to)
	if err != nil {
		return nil, err
	}
	client, err := n.listen(from)
	if err != nil {
		_ = server.Close()
		return nil, err
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		reflect(server)
	}()
	defer func() {
		_ = client.Close()
		_ = server.SetReadDeadline(time.Now())
		<-gone
		_ = server.Close()
	}()

	start := time.Now()
	pinged := make(chan error, 1)
	go func() { pinged <- ping(ctx, client, server.LocalAddr(), start, count, interval) }()

	rtts := make([]time.Duration, 0, count)
	deadline := start.Add(time.Duration(count)*interval + 2*time.Second)
	_ = client.SetReadDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = client.SetReadDeadline(time.Now()) })
	defer stop()
	buf := make([]byte, 64)
	for len(rtts) < count {
		if _, _, err = client.ReadFrom(buf); err != nil {
			break
		}
		sent := time.Duration(binary.BigEndian.Uint64(buf))
		rtts = append(rtts, time.Since(start)-sent)
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		err = nil
	}
	return rtts, errors.Join(ctx.Err(), err, <-pinged)
}

func (n *Network) listen(region string) (*Conn, error) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("echo: %w", err)
	}
	w := n.Wrap(c, region)
	w.apart = true
	return w, nil
}

// ping sends the time since start in each packet.
func ping(ctx context.Context, c *Conn, to net.Addr, start time.Time, count int, interval time.Duration) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	buf := make([]byte, 8)
	for range count {
		binary.BigEndian.PutUint64(buf, uint64(time.Since(start)))
		if _, err := c.WriteTo(buf, to); err != nil {
			return fmt.Errorf("echo: %w", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// reflect sends back whatever comes until reading fails.
func reflect(c *Conn) {
	buf := make([]byte, 2048)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = c.WriteTo(buf[:n], from)
	}
}
