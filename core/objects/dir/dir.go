// Package dir keeps objects in a directory: for development, and for deployments
// of one machine, or whose nodes share a file system.
//
// An object is one file, whose first line is the content type and whose rest is
// the object. It is written under another name, synced and renamed, so that it is
// there as a whole or not at all, whenever the machine stops.
package dir

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/mustermesh/muster/core/objects"
)

// Store is a directory. It is safe for concurrent use, also by several processes.
type Store struct{ root *os.Root }

var _ objects.Store = (*Store)(nil)

// Open makes the directory if it isn't there.
func Open(path string) (*Store, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("objects: %w", err)
	}
	root, err := os.OpenRoot(path) // whatever a key were, it leads nowhere else
	if err != nil {
		return nil, fmt.Errorf("objects: %w", err)
	}
	return &Store{root}, nil
}

// Close closes the directory.
func (s *Store) Close() error { return s.root.Close() }

// Put satisfies objects.Store.
func (s *Store) Put(ctx context.Context, key string, body io.Reader, size int64, contentType string) error {
	if err := objects.CheckKey(key); err != nil {
		return err
	}
	if strings.ContainsAny(contentType, "\r\n") {
		return fmt.Errorf("content type %q", contentType)
	}
	folder, name := filepath.Split(filepath.FromSlash(key))
	if folder != "" {
		if err := s.root.MkdirAll(filepath.Clean(folder), 0o700); err != nil {
			return fmt.Errorf("put %s: %w", key, err)
		}
	}
	f, err := os.CreateTemp(filepath.Join(s.root.Name(), folder), ".put-"+name+"-") // no key begins so
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	defer os.Remove(f.Name()) // once it is renamed there is none
	defer f.Close()
	if _, err := fmt.Fprintln(f, contentType); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	if _, err := io.Copy(f, objects.Exactly(&interruptible{ctx, body}, size)); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	if err := os.Rename(f.Name(), filepath.Join(s.root.Name(), folder, name)); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return s.sync(key, folder)
}

// sync writes a folder's list of names to the disk.
func (s *Store) sync(key, folder string) error {
	d, err := s.root.Open(filepath.Clean(folder))
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return nil
}

// interruptible ends with its context.
type interruptible struct {
	ctx  context.Context
	body io.Reader
}

func (i *interruptible) Read(p []byte) (int, error) {
	if err := context.Cause(i.ctx); err != nil {
		return 0, err
	}
	return i.body.Read(p)
}

// Get satisfies objects.Store.
func (s *Store) Get(_ context.Context, key string) (objects.Object, error) {
	if err := objects.CheckKey(key); err != nil {
		return objects.Object{}, err
	}
	f, err := s.root.Open(filepath.FromSlash(key))
	if errors.Is(err, fs.ErrNotExist) {
		return objects.Object{}, objects.ErrNotFound
	}
	if err != nil {
		return objects.Object{}, fmt.Errorf("get %s: %w", key, err)
	}
	o, err := open(f)
	if err != nil {
		f.Close()
		return objects.Object{}, fmt.Errorf("get %s: %w", key, err)
	}
	return o, nil
}

func open(f *os.File) (objects.Object, error) {
	info, err := f.Stat()
	if err != nil {
		return objects.Object{}, err
	}
	if info.IsDir() { // the beginning of other keys
		return objects.Object{}, objects.ErrNotFound
	}
	r := bufio.NewReader(f)
	line, err := r.ReadString('\n')
	if err != nil {
		return objects.Object{}, fmt.Errorf("no content type: %w", err)
	}
	return objects.Object{
		Body: struct {
			io.Reader
			io.Closer
		}{r, f},
		Size: info.Size() - int64(len(line)), Type: strings.TrimSuffix(line, "\n"),
	}, nil
}

// Delete satisfies objects.Store. What a Put left that was killed goes, too; one that
// is under way fails. Empty folders stay.
func (s *Store) Delete(_ context.Context, key string) error {
	if err := objects.CheckKey(key); err != nil {
		return err
	}
	parts, err := fs.Glob(s.root.FS(), path.Join(path.Dir(key), ".put-"+path.Base(key)+"-*")) // keys have nothing that Glob takes for a pattern
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	for _, part := range parts {
		if err := s.root.Remove(filepath.FromSlash(part)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("delete %s: %w", key, err)
		}
	}
	if err := s.root.Remove(filepath.FromSlash(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}
