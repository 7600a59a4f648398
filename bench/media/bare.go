package media

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/media/sfu"
	"github.com/mustermesh/muster/media/sfu/sfutest"
)

// Bare is a call on a server that Serve runs in a process of its own.
type Bare struct {
	cmd  *exec.Cmd
	base string
}

// OpenBare starts the process: binary is muster, env is beside this process's own.
func OpenBare(ctx context.Context, binary string, env []string) (*Bare, error) {
	b := &Bare{cmd: exec.CommandContext(ctx, binary, "bench", "sfu-server")}
	b.cmd.Env, b.cmd.Stderr = append(os.Environ(), env...), os.Stderr
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := b.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the media server: %w", err)
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	var ready Ready
	if err == nil {
		err = json.Unmarshal(line, &ready)
	}
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("the media server did not come up: %w", err)
	}
	b.base = ready.HTTP
	return b, nil
}

// PID is the process.
func (b *Bare) PID() int { return b.cmd.Process.Pid }

// Close ends the process.
func (b *Bare) Close() {
	_ = b.cmd.Process.Signal(os.Interrupt)
	_ = b.cmd.Wait()
}

// Stats asks the server what it did.
func (b *Bare) Stats(ctx context.Context) (s sfu.Stats, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.base+"/stats", nil)
	if err != nil {
		return s, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

// Join takes part.
func (b *Bare) Join(ctx context.Context, name string, on Events) (Connection, error) {
	ctx, cancel := context.WithCancel(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.base+"/join?name="+url.QueryEscape(name), nil)
	if err != nil {
		cancel()
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		cancel()
		return nil, err
	}
	c := &bareClient{describe: b.base + "/describe?name=" + url.QueryEscape(name), cancel: cancel, over: make(chan struct{})}
	if resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	} else {
		c.rtc, err = sfutest.New(sfutest.Options{}, c.send)
	}
	if err != nil {
		cancel()
		_ = resp.Body.Close()
		return nil, err
	}
	c.rtc.OnTrack(on.Track)
	go func() {
		defer close(c.over)
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var d wire.CallDescription
			err := protojson.Unmarshal(lines.Bytes(), &d)
			if err == nil {
				err = c.rtc.Receive(&d)
			}
			if err != nil {
				on.Failed(err)
			}
		}
	}()
	return c, nil
}

type bareClient struct {
	describe string // URL
	rtc      *sfutest.Client
	cancel   context.CancelFunc
	over     chan struct{}
}

func (c *bareClient) send(d *wire.CallDescription) error {
	b, err := protojson.Marshal(d)
	if err != nil {
		return err
	}
	resp, err := http.Post(c.describe, "application/json", bytes.NewReader(b))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 1_000))
		return errors.New(string(b))
	}
	return nil
}

func (c *bareClient) Publish(_ context.Context, tracks ...sfutest.Track) error {
	return c.rtc.Publish(tracks...)
}

func (c *bareClient) Close() {
	c.cancel()
	c.rtc.Close()
	<-c.over
}
