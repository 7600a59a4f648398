package wire

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every code that a client can meet is explained.
func TestEveryCodeIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/protocol.md")
	require.NoError(t, err)
	documented := func(code, where string) {
		require.True(t, strings.Contains(string(page), "`"+code+"`"), "%s (%s) is missing in docs/protocol.md", code, where)
	}
	for _, c := range closes {
		require.Contains(t, string(page), fmt.Sprintf("| %d | `%s` |", c.number, c.code))
	}
	source, err := os.ReadFile("codes.go")
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`= "([a-z_]+)"`).FindAllStringSubmatch(string(source), -1) {
		documented(m[1], "codes.go")
	}
	made := regexp.MustCompile(`(?:errs\.New|newProblem)\([\w.]+,\s*"([a-z_]+)"`)
	require.NoError(t, filepath.WalkDir("../../core", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range made.FindAllStringSubmatch(string(b), -1) {
			documented(m[1], path)
		}
		return err
	}))
}
