//go:build unix

package devdb

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// oldest is the first PostgreSQL with CREATE DATABASE … STRATEGY, and the
// oldest that Muster is tested with.
const oldest = 15

// binaries is one installation of PostgreSQL.
type binaries struct {
	dir     string
	version string // "15.18"
	major   int
}

func (b binaries) path(name string) string { return filepath.Join(b.dir, name) }

var versionNumber = regexp.MustCompile(`\d+(\.\d+)?`)

// findPostgres returns the newest PostgreSQL, or the one of the given major
// version: data files can't be read by another.
func findPostgres(major string) (binaries, error) {
	major = strings.TrimSpace(major)
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil { // initdb stands beside the real one
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",            // Debian, Ubuntu, Alpine
		"/usr/pgsql-*/bin",                     // Fedora, RHEL
		"/opt/homebrew/opt/postgresql@*/bin",   // macOS on ARM
		"/usr/local/opt/postgresql@*/bin",      // macOS on Intel
		"/Applications/Postgres.app/*/*/*/bin", // Postgres.app: Contents/Versions/17
	} {
		found, _ := filepath.Glob(pattern) // the only error is a bad pattern
		dirs = append(dirs, found...)
	}

	var all []binaries
	for _, dir := range dirs {
		b := binaries{dir: dir}
		if _, err := os.Stat(b.path("initdb")); err != nil {
			continue
		}
		out, err := exec.Command(b.path("postgres"), "--version").Output()
		if err != nil {
			continue
		}
		b.version = versionNumber.FindString(string(out))
		number, _, _ := strings.Cut(b.version, ".")
		if b.major, err = strconv.Atoi(number); err != nil {
			continue
		}
		if b.major >= oldest && (major == "" || major == number) {
			all = append(all, b)
		}
	}
	switch {
	case len(all) > 0:
		return slices.MaxFunc(all, func(a, b binaries) int { return cmp.Compare(a.major, b.major) }), nil
	case major != "":
		return binaries{}, fmt.Errorf("the data directory was made by PostgreSQL %s, which is not installed here: "+
			"install it, or choose another --data directory", major)
	}
	return binaries{}, ErrNoServer
}

func findCockroach() string {
	path, err := exec.LookPath("cockroach")
	if err != nil {
		return ""
	}
	return path
}
