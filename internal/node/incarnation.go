package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// nextStart returns the time that names this start of a node, in milliseconds:
// now, but later than the start before. A clock that was set back would
// otherwise make the node an earlier start of itself, which its region and its
// peers refuse until the clock has caught up. dir remembers it.
func nextStart(dir string, now time.Time) (time.Time, error) {
	file := filepath.Join(dir, "incarnation")
	b, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return now, fmt.Errorf("incarnation: %w", err)
	default:
		last, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		if err != nil {
			return now, fmt.Errorf("incarnation: %s is damaged: delete it if the node's clock is right: %w", file, err)
		}
		if now.UnixMilli() <= last {
			now = time.UnixMilli(last + 1)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return now, fmt.Errorf("incarnation: %w", err)
	}
	// Renamed, so that it is whole or the old one.
	if err := os.WriteFile(file+".new", fmt.Appendf(nil, "%d\n", now.UnixMilli()), 0o600); err != nil {
		return now, fmt.Errorf("incarnation: %w", err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		return now, fmt.Errorf("incarnation: %w", err)
	}
	return now, nil
}
