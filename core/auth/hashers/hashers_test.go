package hashers

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == "hash":
		if err := Serve(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case len(os.Args) > 1 && os.Args[1] == "fail":
		os.Exit(1)
	case len(os.Args) > 1 && os.Args[1] == "deaf": // answers what is no sum, and does not end with its input
		fmt.Println(strings.Repeat("what?", 100))
		time.Sleep(time.Minute)
	default:
		os.Exit(m.Run())
	}
}

var cheap = Cost{Passes: 1, MemoryKiB: 64, Lanes: 1, Length: 32}

func pool(t *testing.T, most int, command ...string) *Pool {
	if len(command) == 0 {
		self, err := Self()
		require.NoError(t, err)
		command = []string{self, "hash"}
	}
	p := New(most, slog.New(slog.NewTextHandler(t.Output(), nil)), command...)
	require.NoError(t, p.Start(t.Context()))
	t.Cleanup(p.Stop)
	return p
}

// Whatever happens to the processes, the sums are those that this one computes.
func TestSums(t *testing.T) {
	p := pool(t, 2)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			password, salt := []byte(fmt.Sprint("horse ", i)), bytes.Repeat([]byte{byte(i)}, 16)
			sum, err := p.Hash(t.Context(), password, salt, cheap)
			if err != nil || hex.EncodeToString(sum) != hex.EncodeToString(Here(password, salt, cheap)) {
				t.Errorf("%d: %x, %v", i, sum, err)
			}
		})
	}
	wg.Wait()

	for range 2 { // they die
		s := <-p.slots
		require.NotNil(t, s.process)
		require.NoError(t, s.process.cmd.Process.Kill())
		p.slots <- s
	}
	for range 5 {
		sum, err := p.Hash(t.Context(), []byte("horse"), make([]byte, 16), cheap)
		require.NoError(t, err)
		require.Equal(t, Here([]byte("horse"), make([]byte, 16), cheap), sum)
	}
	for range 2 { // and are started again, after a while
		s := <-p.slots
		require.Nil(t, s.process)
		s.failed = time.Time{}
		p.slots <- s
	}
	_, err := p.Hash(t.Context(), []byte("horse"), make([]byte, 16), cheap)
	require.NoError(t, err)
	p.Stop()
	require.Empty(t, p.slots)
	sum, err := p.Hash(t.Context(), []byte("horse"), make([]byte, 16), cheap)
	require.NoError(t, err)
	require.Len(t, sum, 32, "after the end, too")
}

func TestNoProcess(t *testing.T) {
	for _, command := range [][]string{{"/nonexistent"}, {os.Args[0], "fail"}} {
		p := pool(t, 2, command...)
		for range 3 {
			sum, err := p.Hash(t.Context(), []byte("horse"), make([]byte, 16), cheap)
			require.NoError(t, err)
			require.Equal(t, Here([]byte("horse"), make([]byte, 16), cheap), sum)
		}
	}
}

// A process that doesn't end by itself holds up neither a sign-in for long nor the
// end of the node.
func TestProcessDoesNotEnd(t *testing.T) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		self, _ := Self()
		p := pool(t, 1, self, "deaf")
		sum, err := p.Hash(t.Context(), []byte("horse"), make([]byte, 16), cheap)
		if err != nil || !bytes.Equal(sum, Here([]byte("horse"), make([]byte, 16), cheap)) {
			t.Errorf("%x, %v", sum, err)
		}
		p.Stop()
	}()
	select {
	case <-done:
	case <-time.After(4 * endLimit):
		t.Fatal("it waits for ever")
	}
}

func TestWaitingEnds(t *testing.T) {
	p := pool(t, 1)
	_, err := p.Hash(t.Context(), []byte("horse"), make([]byte, 16), cheap)
	require.NoError(t, err)
	s := <-p.slots // somebody hashes
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = p.Hash(ctx, []byte("horse"), make([]byte, 16), cheap)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	p.slots <- s
}

// The whole process goes behind this one.
func TestLowerPriority(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere the process has the priority of its node")
	}
	p := pool(t, 1)
	_, err := p.Hash(t.Context(), []byte("horse"), make([]byte, 16), cheap)
	require.NoError(t, err)
	s := <-p.slots
	defer func() { p.slots <- s }()
	have, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	require.NoError(t, err)
	want := strconv.Itoa(min(20-have+10, 19))
	task := "/proc/" + strconv.Itoa(s.process.cmd.Process.Pid) + "/task"
	threads, err := os.ReadDir(task)
	require.NoError(t, err)
	require.NotEmpty(t, threads)
	for _, thread := range threads {
		stat, err := os.ReadFile(task + "/" + thread.Name() + "/stat")
		require.NoError(t, err)
		_, fields, _ := strings.Cut(string(stat), ") ")
		require.Equal(t, want, strings.Fields(fields)[16], "nice")
	}
}
