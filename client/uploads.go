package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"time"
)

// Files on their way to a message, by tus 1.0.0 (https://tus.io). An upload that breaks
// goes on where the server says that it is, in another process too: an answer that was
// lost, or a chunk of which only a part arrived, is found there.

const (
	uploadsPath = "/api/v1/uploads"
	uploadChunk = 4 << 20     // of the 8 MiB that the server takes
	chunkWait   = time.Minute // for one: the server has as much patience
	// uploadTries is how often in a row nothing may have come of a chunk.
	uploadTries = 6
)

// UploadFile is a file to upload.
type UploadFile struct {
	Name    string
	Size    int64       // bytes
	Content io.ReaderAt // such as an *os.File
	// Progress is told how many bytes are there. It may be nil, and must not block.
	Progress func(sent int64)
}

// Upload is a file on its way.
type Upload struct {
	ID        string    `json:"id"` // for Attach, once it is finished
	Name      string    `json:"name"`
	Length    int64     `json:"length"`
	Offset    int64     `json:"offset"` // bytes that are there
	Finished  bool      `json:"finished"`
	Type      string    `json:"type"`       // media type, by its content; empty until it is finished
	ExpiresAt time.Time `json:"expires_at"` // it is forgotten then, unless a message has it
}

// Upload uploads a file. It goes on after a lost connection by itself, until nothing has
// come of several attempts. With an error the ID of what is returned names what is
// there, for ContinueUpload; it is empty if nothing is.
func (a *API) Upload(ctx context.Context, f UploadFile) (Upload, error) {
	u := Upload{Name: f.Name, Length: f.Size}
	err := a.signed(ctx, func(token string) error {
		req, err := a.tus(ctx, http.MethodPost, uploadsPath, token, http.NoBody)
		if err != nil {
			return err
		}
		req.Header.Set("Upload-Length", strconv.FormatInt(f.Size, 10))
		req.Header.Set("Upload-Metadata", "filename "+base64.StdEncoding.EncodeToString([]byte(f.Name)))
		h, err := a.send(a.http, req, nil)
		u.ID = path.Base(h.Get("Location"))
		return err
	})
	if err != nil {
		return Upload{}, err
	}
	got, err := a.ContinueUpload(ctx, u.ID, f)
	if err != nil && got.ID == "" {
		got = u
	}
	return got, err
}

// ContinueUpload goes on with an upload of the same file, where it is.
func (a *API) ContinueUpload(ctx context.Context, id string, f UploadFile) (Upload, error) {
	var u Upload
	for tries := 0; ; {
		now, err := a.UploadState(ctx, id)
		if err == nil {
			if now.Offset > u.Offset {
				tries = 0 // what broke has got further all the same
			}
			if u = now; u.Length != f.Size {
				return u, fmt.Errorf("client: upload %s is of another file: it has %d bytes, not %d", id, u.Length, f.Size)
			}
			if f.Progress != nil {
				f.Progress(u.Offset)
			}
			if u.Finished {
				return u, nil
			}
			before := u.Offset
			err = a.appendAll(ctx, &u, f)
			if u.Offset > before {
				tries = 0
			}
			if err == nil {
				continue // its type is asked for
			}
		}
		refused, ok := errorsAs(err)
		if tries++; ctx.Err() != nil || tries > uploadTries || errors.Is(err, errContent) || ok && !again(refused) {
			return u, err
		}
		var after time.Duration
		if ok {
			after = refused.RetryAfter
		}
		if sleep(ctx, after+jitter(tries, requestRetry)) != nil {
			return u, err // says more than the context's end
		}
	}
}

// again reports whether a chunk may be sent once more, from where the upload is then.
func again(e *Error) bool {
	switch e.Status {
	case http.StatusConflict, http.StatusLocked, http.StatusTooManyRequests:
		return true
	}
	return e.Status >= 500
}

var (
	errUnfinished = errors.New("client: the server has all of an upload, and does not finish it")
	errContent    = errors.New("client: the file can't be read")
)

// appendAll sends chunk after chunk, one at least.
func (a *API) appendAll(ctx context.Context, u *Upload, f UploadFile) error {
	if u.Offset >= u.Length {
		return errUnfinished
	}
	for u.Offset < u.Length {
		if err := a.appendChunk(ctx, u, f.Content); err != nil {
			return err
		}
		if f.Progress != nil {
			f.Progress(u.Offset)
		}
	}
	return nil
}

func (a *API) appendChunk(ctx context.Context, u *Upload, content io.ReaderAt) error {
	chunk := make([]byte, min(uploadChunk, u.Length-u.Offset))
	if n, err := content.ReadAt(chunk, u.Offset); n < len(chunk) {
		return fmt.Errorf("%w: %w", errContent, err)
	}
	ctx, cancel := context.WithTimeout(ctx, chunkWait)
	defer cancel()
	patient := *a.http
	patient.Timeout = 0 // that of ctx: a phone may take a while
	return a.signed(ctx, func(token string) error {
		req, err := a.tus(ctx, http.MethodPatch, uploadPath(u.ID), token, bytes.NewReader(chunk))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/offset+octet-stream")
		req.Header.Set("Upload-Offset", strconv.FormatInt(u.Offset, 10))
		h, err := a.send(&patient, req, nil)
		if err != nil {
			return err
		}
		at, err := strconv.ParseInt(h.Get("Upload-Offset"), 10, 64)
		if err != nil || at <= u.Offset || at > u.Length {
			return errors.New("client: the server does not say where the upload is")
		}
		u.Offset = at
		return nil
	})
}

// UploadState says how much of an upload of the user's is there.
func (a *API) UploadState(ctx context.Context, id string) (u Upload, err error) {
	return u, a.call(ctx, http.MethodGet, uploadPath(id), nil, &u)
}

// DeleteUpload gives up an upload that is in no message.
func (a *API) DeleteUpload(ctx context.Context, id string) error {
	return a.signed(ctx, func(token string) error {
		req, err := a.tus(ctx, http.MethodDelete, uploadPath(id), token, http.NoBody)
		if err != nil {
			return err
		}
		_, err = a.send(a.http, req, nil)
		return err
	})
}

// tus makes a request of that protocol.
func (a *API) tus(ctx context.Context, method, path, token string, body io.Reader) (*http.Request, error) {
	req, err := a.request(ctx, method, path, token, body)
	if err == nil {
		req.Header.Set("Tus-Resumable", "1.0.0")
	}
	return req, err
}

func uploadPath(id string) string { return uploadsPath + "/" + url.PathEscape(id) }

// FileLink is where a file is to be had for a few minutes, without a token.
type FileLink struct {
	URL       string    `json:"url"`
	ExpiresAt time.Time `json:"expires_at"`
}

// AttachmentLink says where a file of a message is to be had, or its thumbnail, which
// not every one has. It takes Range, and ends with the message.
func (a *API) AttachmentLink(ctx context.Context, room, id string, thumbnail bool) (l FileLink, err error) {
	at := talkPath(room, "attachments", id)
	if thumbnail {
		at += "?thumbnail=true"
	}
	return l, a.call(ctx, http.MethodGet, at, nil, &l)
}
