package httpapi

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/attachments"
	"github.com/mustermesh/muster/core/chat"
)

const chunk = "application/offset+octet-stream"

func (b *bundle) begin(p person, length int, name string) string {
	b.t.Helper()
	a := b.ok("POST", "/uploads", p.token, nil, "Tus-Resumable", "1.0.0", "Upload-Length", strconv.Itoa(length),
		"Upload-Metadata", "filetype dGV4dC9odG1s,filename "+base64.StdEncoding.EncodeToString([]byte(name)))
	require.Equal(b.t, http.StatusCreated, a.StatusCode)
	require.Equal(b.t, "1.0.0", a.Header.Get("Tus-Resumable"))
	require.NotEmpty(b.t, a.Header.Get("Upload-Expires"))
	return strings.TrimPrefix(a.Header.Get("Location"), prefix)
}

func (b *bundle) patch(p person, at string, offset int, data []byte) answer {
	b.t.Helper()
	return b.request("PATCH", at, p.token, data, "Tus-Resumable", "1.0.0", "Content-Type", chunk, "Upload-Offset", strconv.Itoa(offset))
}

func (b *bundle) attach(p person, room, at string) (id string) {
	b.t.Helper()
	id = strings.TrimPrefix(at, "/uploads/")
	require.NoError(b.t, b.db.InTx(b.t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		user, err := core.ParseUserID(p.id)
		require.NoError(b.t, err)
		_, err = b.files.Attach(ctx, tx, user, room, []uuid.UUID{uuid.MustParse(id)})
		return err
	}))
	return id
}

// What the protocol asks of a server: tus 1.0.0 with creation, termination, expiration.
func TestTus(t *testing.T) {
	b := setup(t)
	ana, bob := b.guest("Ana"), b.guest("Bob")
	text := []byte(strings.Repeat("all that is known of it\n", 100))

	o := b.request("OPTIONS", "/uploads", "", nil)
	require.Equal(t, http.StatusNoContent, o.StatusCode)
	require.Equal(t, "1.0.0", o.Header.Get("Tus-Version"))
	require.Equal(t, "creation,termination,expiration", o.Header.Get("Tus-Extension"))
	require.Equal(t, strconv.Itoa(100<<20), o.Header.Get("Tus-Max-Size"))

	b.refused(412, "bad_tus_version", "POST", "/uploads", ana.token, nil, "Upload-Length", "1")
	v := b.refused(412, "bad_tus_version", "POST", "/uploads", ana.token, nil, "Upload-Length", "1", "Tus-Resumable", "0.2.2")
	require.Equal(t, "1.0.0", v.Header.Get("Tus-Version"))
	for _, length := range []string{"", "0", "-1", "x", "9999999999999999999"} {
		b.refused(400, "bad_upload", "POST", "/uploads", ana.token, nil, "Tus-Resumable", "1.0.0", "Upload-Length", length)
	}
	b.refused(413, "too_large", "POST", "/uploads", ana.token, nil, "Tus-Resumable", "1.0.0", "Upload-Length", strconv.Itoa(100<<20+1))
	b.refused(400, "bad_upload", "POST", "/uploads", ana.token, nil, "Tus-Resumable", "1.0.0", "Upload-Length", "1", "Upload-Metadata", "filename %%")

	at := b.begin(ana, len(text), "notes.txt")
	head := func(want int) {
		t.Helper()
		a := b.ok("HEAD", at, ana.token, nil, "Tus-Resumable", "1.0.0")
		require.Equal(t, strconv.Itoa(want), a.Header.Get("Upload-Offset"))
		require.Equal(t, strconv.Itoa(len(text)), a.Header.Get("Upload-Length"))
		require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
	}
	head(0)
	b.refused(404, "upload_not_found", "GET", at, bob.token, nil)
	require.Equal(t, 404, b.patch(bob, at, 0, text).StatusCode)
	b.refused(415, "unsupported_media_type", "PATCH", at, ana.token, text, "Tus-Resumable", "1.0.0", "Upload-Offset", "0")
	b.refused(400, "bad_upload", "PATCH", at, ana.token, text, "Tus-Resumable", "1.0.0", "Content-Type", chunk, "Upload-Offset", "-1")
	require.Equal(t, 409, b.patch(ana, at, 1, text).StatusCode)
	require.Equal(t, 413, b.patch(ana, at, 0, append(text, 'x')).StatusCode)
	head(0)
	p := b.patch(ana, at, 0, text[:1000])
	require.Equal(t, http.StatusNoContent, p.StatusCode)
	require.Equal(t, "1000", p.Header.Get("Upload-Offset"))
	require.NotEmpty(t, p.Header.Get("Upload-Expires"))
	head(1000)
	require.Equal(t, 409, b.patch(ana, at, 0, text).StatusCode, "it has moved")
	// By a client that can't send PATCH.
	p = b.ok("POST", at, ana.token, text[1000:], "Tus-Resumable", "1.0.0", "Content-Type", chunk, "Upload-Offset", "1000", "X-HTTP-Method-Override", "PATCH")
	require.Equal(t, strconv.Itoa(len(text)), p.Header.Get("Upload-Offset"))
	head(len(text))
	require.Equal(t, true, b.ok("GET", at, ana.token, nil).body["finished"])

	gone := b.begin(ana, 10, "x")
	b.refused(404, "upload_not_found", "DELETE", gone, bob.token, nil, "Tus-Resumable", "1.0.0")
	require.Equal(t, http.StatusNoContent, b.ok("DELETE", gone, ana.token, nil, "Tus-Resumable", "1.0.0").StatusCode)
	b.refused(404, "upload_not_found", "GET", gone, ana.token, nil)

	// More than a JSON body may have, up to what a chunk may.
	big := bytes.Repeat([]byte("0123456789abcdef"), 600<<10)
	at = b.begin(ana, len(big), "big.log")
	require.Equal(t, 413, b.patch(ana, at, 0, big).StatusCode)
	require.Equal(t, 204, b.patch(ana, at, 0, big[:8<<20]).StatusCode)
	require.Equal(t, 204, b.patch(ana, at, 8<<20, big[8<<20:]).StatusCode)
	require.NotContains(t, b.log.String(), "notes.txt")
}

// What arrived before the connection broke is there.
func TestBrokenConnection(t *testing.T) {
	b := setup(t)
	ana := b.guest("Ana")
	at := b.begin(ana, 5000, "a.txt")
	c, err := net.Dial("tcp", b.server.Listener.Addr().String())
	require.NoError(t, err)
	_, err = fmt.Fprintf(c, "PATCH %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTus-Resumable: 1.0.0\r\nContent-Type: %s\r\nUpload-Offset: 0\r\nContent-Length: 5000\r\n\r\n%s",
		prefix+at, ana.token, chunk, strings.Repeat("x", 1234))
	require.NoError(t, err)
	require.NoError(t, c.Close())
	require.Eventually(t, func() bool {
		return b.ok("HEAD", at, ana.token, nil, "Tus-Resumable", "1.0.0").Header.Get("Upload-Offset") == "1234"
	}, 10*time.Second, 20*time.Millisecond)
	require.Equal(t, 204, b.patch(ana, at, 1234, bytes.Repeat([]byte("y"), 5000-1234)).StatusCode)
}

func TestFiles(t *testing.T) {
	b := setup(t)
	ana, bob, eve := b.guest("Ana"), b.guest("Bob"), b.guest("Eve")
	room := "group:" + b.group(ana, bob)
	upload := func(data []byte, name string) string {
		at := b.begin(ana, len(data), name)
		require.Equal(t, 204, b.patch(ana, at, 0, data).StatusCode)
		return b.attach(ana, room, at)
	}
	text := strings.Repeat("0123456789", 200)
	id := upload([]byte(text), "ä \"x\".html")
	path := "/conversations/" + room + "/attachments/" + id
	b.refused(404, "not_member", "GET", path, eve.token, nil)
	b.refused(404, "file_not_found", "GET", path+"?thumbnail=true", bob.token, nil)
	b.refused(404, "file_not_found", "GET", "/conversations/group:"+b.group(bob)+"/attachments/"+id, bob.token, nil)
	b.refused(404, "upload_not_found", "GET", "/uploads/"+id, ana.token, nil)
	link := func(path string) string {
		u := b.ok("GET", path, bob.token, nil).str("url")
		require.True(t, strings.HasPrefix(u, "https://example.org"+prefix+"/files/"))
		return strings.TrimPrefix(u, "https://example.org"+prefix)
	}
	file := link(path)
	f := b.ok("GET", file, "", nil)
	require.Equal(t, text, string(f.raw))
	require.Equal(t, "text/plain", f.Header.Get("Content-Type"))
	require.Equal(t, "attachment; filename*=utf-8''%C3%A4%20x.html.txt", f.Header.Get("Content-Disposition"))
	require.Equal(t, "nosniff", f.Header.Get("X-Content-Type-Options"))
	require.Equal(t, "default-src 'none'; sandbox", f.Header.Get("Content-Security-Policy"))
	require.Equal(t, "bytes", f.Header.Get("Accept-Ranges"))
	require.EqualValues(t, len(text), b.ok("HEAD", file, "", nil).ContentLength)
	part := b.ok("GET", file, "", nil, "Range", "bytes=1995-")
	require.Equal(t, http.StatusPartialContent, part.StatusCode)
	require.Equal(t, "56789", string(part.raw))
	require.Equal(t, "bytes 1995-1999/2000", part.Header.Get("Content-Range"))
	require.Equal(t, 416, b.request("GET", file, "", nil, "Range", "bytes=2000-").StatusCode)
	require.Equal(t, 304, b.request("GET", file, "", nil, "If-None-Match", f.Header.Get("ETag")).StatusCode)
	b.refused(404, "file_not_found", "GET", "/files/x", "", nil)
	forged := []byte(file)
	forged[10] ^= 1
	require.Equal(t, 404, b.request("GET", string(forged), "", nil).StatusCode)

	image := upload(picture(1000), "../cat.html")
	path = "/conversations/" + room + "/attachments/" + image
	f = b.ok("GET", link(path), "", nil)
	require.Equal(t, "image/png", f.Header.Get("Content-Type"))
	require.Equal(t, "inline; filename=cat.html.png", f.Header.Get("Content-Disposition"))
	require.Equal(t, "image/jpeg", b.ok("GET", link(path+"?thumbnail=true"), "", nil).Header.Get("Content-Type"))

	// A link ends with the message, and by itself.
	ends := link(path)
	require.NoError(t, b.db.InTx(t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		return b.files.Detach(ctx, tx, []uuid.UUID{uuid.MustParse(image)})
	}))
	b.refused(404, "file_not_found", "GET", ends, "", nil)
	b.refused(404, "file_not_found", "GET", path, bob.token, nil)
	b.ok("GET", file, "", nil)
	b.advance(6 * time.Minute)
	b.refused(404, "file_not_found", "GET", file, "", nil)

	resp, err := http.NewRequestWithContext(t.Context(), "OPTIONS", b.server.URL+prefix+"/uploads", nil)
	require.NoError(t, err)
	resp.Header.Set("Origin", "https://app.example.org")
	resp.Header.Set("Access-Control-Request-Method", "PATCH")
	pre, err := b.server.Client().Do(resp)
	require.NoError(t, err)
	_, _ = io.Copy(io.Discard, pre.Body)
	require.NoError(t, pre.Body.Close())
	require.Contains(t, pre.Header.Get("Access-Control-Allow-Headers"), "Upload-Offset")
}

// messageFiles is core/attachments as core/chat sees it.
type messageFiles struct{ *attachments.Store }

func (m messageFiles) Attach(ctx context.Context, tx pgx.Tx, sender core.UserID, room string, ids []uuid.UUID) (out []chat.Attachment, err error) {
	list, err := m.Store.Attach(ctx, tx, sender, room, ids)
	for _, a := range list {
		out = append(out, chat.Attachment(a))
	}
	return out, err
}

// From the file on a phone to the message that brings it, and until that is deleted.
func TestMessageWithFile(t *testing.T) {
	b := setup(t, func(cfg *Config) {
		c := chat.New(cfg.DB, chat.Config{Attachments: messageFiles{cfg.Attachments}})
		t.Cleanup(c.Stop)
		cfg.Messages = &sentMessages{Chat: c}
	})
	ana, bob := b.guest("Ana"), b.guest("Bob")
	room := "/conversations/group:" + b.group(ana, bob)
	data := picture(400)
	at := b.begin(ana, len(data), "cat.png")
	id := strings.TrimPrefix(at, "/uploads/")
	send := obj{"client_id": "1", "body": "", "attachments": []string{id}}
	b.refused(400, "attachment_not_found", "POST", room+"/messages", ana.token, send)
	require.Equal(t, 204, b.patch(ana, at, 0, data).StatusCode)
	b.refused(400, "attachment_not_found", "POST", room+"/messages", bob.token, send)
	first := b.ok("POST", room+"/messages", ana.token, send)
	require.Equal(t, first.body["number"], b.ok("POST", room+"/messages", ana.token, send).body["number"], "sent again")
	b.refused(400, "attachment_not_found", "POST", room+"/messages", ana.token, obj{"client_id": "2", "body": "", "attachments": []string{id}})

	listed := b.ok("GET", room+"/messages", bob.token, nil).body["messages"].([]any)
	require.Len(t, listed, 1)
	file := listed[0].(obj)["attachments"].([]any)[0].(obj)
	require.Equal(t, []any{id, "cat.png", "image/png", 400.0, 400.0, true}, []any{file["id"], file["name"], file["type"], file["width"], file["height"], file["thumbnail"]})
	link := strings.TrimPrefix(b.ok("GET", room+"/attachments/"+id, bob.token, nil).str("url"), "https://example.org"+prefix)
	require.EqualValues(t, file["size"], len(b.ok("GET", link, "", nil).raw))
	b.ok("DELETE", fmt.Sprintf("%s/messages/%v", room, first.body["number"]), ana.token, nil)
	b.refused(404, "file_not_found", "GET", link, "", nil)
	b.refused(404, "file_not_found", "GET", room+"/attachments/"+id, bob.token, nil)
}
