package meshtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/client"
)

// cutter breaks requests off in the middle of a chunk while it is told to.
type cutter struct {
	cut    atomic.Bool
	broken atomic.Int32
}

var errCut = errors.New("the network is gone")

func (c *cutter) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.cut.Load() && r.Method == http.MethodPatch {
		c.broken.Add(1)
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(io.MultiReader(io.LimitReader(r.Body, 100<<10), failing{}))
	}
	return http.DefaultTransport.RoundTrip(r)
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errCut }

// A file whose upload broke goes on at another node, where the server says it is, and
// goes with a message to who is in the conversation, and to nobody else.
func TestAnUploadGoesOnElsewhere(t *testing.T) {
	m := withObjects(t, 2, 2)
	ctx := t.Context()
	ana, bo, eve := m.Guest(0, "Ana").Connect(0, 0, client.Auto), m.Guest(1, "Bo").Connect(1, 0, client.Auto), m.Guest(0, "Eve")
	group := m.Group(ana, bo)
	room := client.GroupRoom(group)

	text := []byte(strings.Repeat("all that is known of it, and no more\n", 150_000)) // more than a chunk
	file := client.UploadFile{Name: "notes.txt", Size: int64(len(text)), Content: bytes.NewReader(text)}
	net := &cutter{}
	phone := client.NewAPI(m.Topology.Regions[0].Nodes[0].HTTP, client.APIConfig{HTTP: &http.Client{Transport: net}, Credentials: ana.Credentials()})
	going, stop := context.WithCancel(ctx)
	defer stop()
	file.Progress = func(sent int64) {
		net.cut.Store(sent > 0) // after the first chunk
		if net.broken.Load() > 1 {
			stop()
		}
	}
	u, err := phone.Upload(going, file)
	require.Error(t, err)
	require.NotEmpty(t, u.ID, "%v", err)
	file.Progress = nil

	other := client.NewAPI(m.Topology.Regions[1].Nodes[1].HTTP, client.APIConfig{Credentials: ana.Credentials()})
	now, err := other.UploadState(ctx, u.ID)
	require.NoError(t, err)
	require.Greater(t, now.Offset, int64(0), "what arrived is there")
	require.Less(t, now.Offset, now.Length)
	u, err = other.ContinueUpload(ctx, u.ID, file)
	require.NoError(t, err)
	require.True(t, u.Finished)
	require.Equal(t, "notes.txt", u.Name)
	require.Contains(t, u.Type, "text/plain")

	r := ana.Join(group)
	sent, err := r.Send(ctx, "", client.Attach(u.ID))
	require.NoError(t, err)
	require.Len(t, sent.Attachments, 1)
	got, err := bo.Message(ctx, room, sent.Number)
	require.NoError(t, err)
	require.Equal(t, sent.Attachments, got.Attachments)
	_, err = bo.Message(ctx, room, sent.Number+1)
	require.True(t, client.IsCode(err, "message_not_found"), "%v", err)

	link, err := bo.AttachmentLink(ctx, room, u.ID, false)
	require.NoError(t, err)
	at := link.URL
	if strings.HasPrefix(at, "/") {
		at = m.Topology.Regions[1].Nodes[0].HTTP + at
	}
	resp, err := http.Get(at)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, sha256.Sum256(text), sha256.Sum256(body))
	_, err = bo.AttachmentLink(ctx, room, u.ID, true)
	require.True(t, client.IsCode(err, "file_not_found"), "text has no thumbnail: %v", err)
	_, err = eve.AttachmentLink(ctx, room, u.ID, false)
	require.Error(t, err)

	require.NoError(t, ana.Delete(ctx, room, sent.Number))
	_, err = bo.AttachmentLink(ctx, room, u.ID, false)
	require.True(t, client.IsCode(err, "file_not_found"), "%v", err)
}
