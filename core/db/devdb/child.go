//go:build unix

package devdb

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// account is the unprivileged user that a server runs as when we are root;
// nil means our own.
type account = syscall.Credential

// child is a running server with its watcher.
type child struct {
	cmd     *exec.Cmd
	exited  chan struct{} // closed when the server is gone and err is set
	err     error
	watcher *exec.Cmd
	leash   *os.File // the watcher acts when this closes
	scratch string   // a directory that goes with the server
	first   syscall.Signal
}

// watch is what the watcher runs: it waits for the end of its input, then
// sends signal $1 to the server $2 and removes the directory $3.
const watch = `read _; kill -"$1" "$2"; while kill -0 "$2"; do sleep 0.05; done; rm -rf "$3"`

// startChild starts the server, which is to be ended by the signal first. Its
// process group is its own, so that ^C in a terminal reaches us alone and the
// database goes last.
func startChild(cmd *exec.Cmd, as *account, scratch string, first syscall.Signal) (*child, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: as}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	c := &child{cmd: cmd, exited: make(chan struct{}), scratch: scratch, first: first}
	if err := c.startWatcher(as); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, fmt.Errorf("start watcher: %w", err)
	}
	go func() { // ends with the server, which stop waits for
		c.err = cmd.Wait()
		// From here on the process id may be somebody else's.
		_ = c.watcher.Process.Kill()
		_ = c.watcher.Wait()
		_ = c.leash.Close()
		close(c.exited)
	}()
	return c, nil
}

func (c *child) startWatcher(as *account) error {
	end, leash, err := os.Pipe() // closed on exec: nobody else keeps it open
	if err != nil {
		return err
	}
	c.watcher = exec.Command("/bin/sh", "-c", watch, "muster-database-watcher",
		strconv.Itoa(int(c.first)), strconv.Itoa(c.cmd.Process.Pid), c.scratch)
	c.watcher.Dir = "/"
	c.watcher.Stdin = end
	c.watcher.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: as}
	err = c.watcher.Start()
	_ = end.Close()
	if err != nil {
		_ = leash.Close()
		return err
	}
	c.leash = leash
	return nil
}

// stop ends the server. SIGINT: roll back, write everything, leave. SIGQUIT:
// leave now, recover at the next start if there is one. SIGKILL: the kernel
// ends it.
func (c *child) stop() {
	for _, step := range []struct {
		signal  syscall.Signal
		patient time.Duration
	}{{c.first, 10 * time.Second}, {syscall.SIGQUIT, 5 * time.Second}, {syscall.SIGKILL, time.Minute}} {
		_ = c.cmd.Process.Signal(step.signal) // knows when it was waited for
		select {
		case <-c.exited:
			_ = os.RemoveAll(c.scratch)
			return
		case <-time.After(step.patient):
		}
	}
}

// stopOrphan does the same to a server that isn't our child.
func stopOrphan(pid int) error {
	for _, step := range []struct {
		signal  syscall.Signal
		patient time.Duration
	}{{syscall.SIGINT, 5 * time.Second}, {syscall.SIGQUIT, 5 * time.Second}, {syscall.SIGKILL, 5 * time.Second}} {
		if err := syscall.Kill(pid, step.signal); errors.Is(err, syscall.ESRCH) {
			return nil
		}
		for deadline := time.Now().Add(step.patient); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
				return nil
			}
		}
	}
	return fmt.Errorf("process %d, left by an earlier run, does not end", pid)
}
