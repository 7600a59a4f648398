package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/bench/scenario"
)

func TestTurnOptions(t *testing.T) {
	secrets := filepath.Join(t.TempDir(), "secrets")
	require.NoError(t, os.WriteFile(secrets, []byte("a-new-secret-0123456789\nan-old-secret-012345678\n"), 0o600))
	good := func() TurnCmd {
		return TurnCmd{SecretFile: secrets, Ports: "50000-50100", Listen: []string{"udp://127.0.0.1:0", "tcp://[::1]:3478"}, AllowPrivate: []string{"10.0.0.0/8"}}
	}
	c := good()
	o, err := c.options()
	require.NoError(t, err)
	require.Len(t, o.Secrets, 2)
	require.Equal(t, uint16(50100), o.MaxPort)
	require.Equal(t, "tcp", string(o.Listen[1].Transport))
	for want, set := range map[string]func(*TurnCmd){
		"--ports":         func(c *TurnCmd) { c.Ports = "all" },
		"--listen":        func(c *TurnCmd) { c.Listen = []string{"3478"} },
		"--allow-private": func(c *TurnCmd) { c.AllowPrivate = []string{"10.0.0.1"} },
		"--allow-peer":    func(c *TurnCmd) { c.AllowPeer = []string{"10.0.0.1"} },
		"--alternate":     func(c *TurnCmd) { c.Alternate = "elsewhere" },
		"come together":   func(c *TurnCmd) { c.TLSCert = secrets },
		"--tls-cert":      func(c *TurnCmd) { c.TLSCert, c.TLSKey = secrets, secrets },
		"--secret-file":   func(c *TurnCmd) { c.SecretFile = secrets + "x" },
	} {
		c := good()
		set(&c)
		_, err := c.options()
		require.ErrorContains(t, err, want)
	}
}

func TestBenchTurn(t *testing.T) {
	out := filepath.Join(t.TempDir(), "turn.json")
	c := &BenchTurnCmd{
		benchOutput: benchOutput{JSON: out}, Rounds: 1, Duration: time.Second, Warmup: 200 * time.Millisecond, Allocations: 3, Size: 200, Idle: 20,
		env: []string{asMuster + "=1"},
		cases: []scenario.TurnCase{
			{Name: "one way", Rate: 1000},
			{Name: "there and back", Rate: 1000, Echo: true},
		},
	}
	require.NoError(t, c.Run(t.Context()))
	require.FileExists(t, out)
	c.PeerPID = 1
	require.ErrorContains(t, c.Run(t.Context()), "come together")
}
