package scenario

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// TurnServer runs a relay of ours in a process of its own: binary with the arguments
// of `muster turn`. The function that is returned ends it.
func TurnServer(ctx context.Context, binary string, env []string) (t TurnTarget, stop func(), err error) {
	dir, err := os.MkdirTemp("", "muster-bench-turn-")
	if err != nil {
		return t, nil, fmt.Errorf("bench: %w", err)
	}
	secrets := filepath.Join(dir, "secrets")
	secret := "benchmark-0123456789abcdef"
	if err := os.WriteFile(secrets, []byte(secret+"\n"), 0o600); err != nil {
		_ = os.RemoveAll(dir)
		return t, nil, fmt.Errorf("bench: %w", err)
	}
	addr, err := freeUDP()
	if err != nil {
		_ = os.RemoveAll(dir)
		return t, nil, err
	}
	cmd := exec.CommandContext(ctx, binary, "turn", "--listen", "udp://"+addr.String(), "--secret-file", secrets,
		"--allow-private", "127.0.0.0/8", "--user-most=-1", "--user-bytes=-1", "--admin", "127.0.0.1:0", "--max-drain", "1s")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Env, cmd.Stderr = append(os.Environ(), env...), os.Stderr
	cmd.Args = append(cmd.Args, "--log-level", "warn")
	if err := cmd.Start(); err != nil {
		_ = os.RemoveAll(dir)
		return t, nil, fmt.Errorf("bench: %w", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-exited
		_ = os.RemoveAll(dir)
	}
	t = TurnTarget{Name: "muster", Addr: addr, PID: cmd.Process.Pid, Secret: secret}
	if err := answers(ctx, addr); err != nil {
		stop()
		return t, nil, err
	}
	return t, stop, nil
}

func freeUDP() (netip.AddrPort, error) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("bench: %w", err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort(), nil
}

// answers waits until a Binding request is answered.
func answers(ctx context.Context, addr netip.AddrPort) error {
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	defer c.Close()
	binding := append([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...)
	buf := make([]byte, 100)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		_, _ = c.Write(binding)
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if n, err := c.Read(buf); err == nil && n >= 20 {
			return nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("bench: muster turn does not answer")
}
