package meshtest

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The README's Go example is run as it stands there, but for the address.
func TestReadmeExample(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(readme), "```go\n")
	require.True(t, found)
	example, _, found := strings.Cut(rest, "```")
	require.True(t, found)
	require.LessOrEqual(t, strings.Count(example, "\n"), 12)

	m := Start(t, 2, 1)
	require.Contains(t, example, "http://localhost:8080")
	source := `package main

import (
	"context"
	"fmt"

	"github.com/mustermesh/muster/client"
	"github.com/mustermesh/muster/geo"
)

func main() {
	ctx := context.Background()
` + strings.ReplaceAll(example, "http://localhost:8080", m.API) + "}\n"
	// Inside the module, so that it is built with it; a folder whose name
	// starts with an underscore is nobody's package.
	dir, err := os.MkdirTemp(".", "_readme")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	file := filepath.Join(dir, "main.go")
	require.NoError(t, os.WriteFile(file, []byte(source), 0o600))
	bin := filepath.Join(t.TempDir(), "readme")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./"+file).CombinedOutput()
	require.NoError(t, err, string(out))

	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	presence, fix := false, false
	for lines := bufio.NewScanner(stdout); !(presence && fix) && lines.Scan(); {
		presence = presence || strings.Contains(lines.Text(), "PresenceChanged") && strings.Contains(lines.Text(), "Name:Ada")
		fix = fix || strings.Contains(lines.Text(), "FixChanged") && strings.Contains(lines.Text(), "45.77")
	}
	cancel()
	_ = cmd.Wait() // killed
	require.True(t, presence, "it saw itself come")
	require.True(t, fix, "and move")
}
