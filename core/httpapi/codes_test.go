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
		source, err := fs.ReadFile(core, path)
		for _, m := range code.FindAllStringSubmatch(string(source), -1) {
			found++
			require.Contains(t, description, "`"+m[1]+"`", path)
		}
		return err
	}))
	require.Greater(t, found, 40, "the pattern still matches")
}
