package httpapi

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every code that core can answer with is in the document's table.
func TestCodesAreDocumented(t *testing.T) {
	code := regexp.MustCompile(`(?:errs\.New\(errs\.\w+|newProblem\(http\.\w+),\s*"(\w+)"`)
	found := 0
	core := os.DirFS("..")
	require.NoError(t, fs.WalkDir(core, ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		if strings.HasPrefix(path, "jobs/") { // operators are told these, by muster ctl
			return nil
		}
		source, err := fs.ReadFile(core, path)
		for _, m := range code.FindAllStringSubmatch(string(source), -1) {
			found++
			require.Contains(t, description, "`"+m[1]+"`", path)
		}
		return err
	}))
	require.Greater(t, found, 40, "the pattern still matches")
}

// docs/protocol.md tells the same codes under the same statuses.
func TestCodesAreInTheProtocolDocument(t *testing.T) {
	b, err := os.ReadFile("../../docs/protocol.md")
	require.NoError(t, err)
	_, http, ok := strings.Cut(string(b), "## Codes of the HTTP API")
	require.True(t, ok)
	codes := func(text string) map[string]bool {
		found := map[string]bool{}
		for _, row := range regexp.MustCompile(`(?m)^\| (\d{3}) \| ([^|]*)`).FindAllStringSubmatch(text, -1) {
			for _, c := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(row[2], -1) {
				found[row[1]+" "+c[1]] = true
			}
		}
		return found
	}
	want := codes(description)
	want["499 client_gone"] = true // only in logs
	want["409 job_alive"] = true   // only at the admin address
	require.Greater(t, len(want), 40)
	require.Equal(t, want, codes(http))
}
