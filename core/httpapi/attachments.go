package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/mustermesh/muster/core/attachments"
	"github.com/mustermesh/muster/internal/errs"
)

// What tus 1.0.0 calls itself, and what of it there is.
const (
	tusVersion    = "1.0.0"
	tusExtensions = "creation,termination,expiration"
	uploadsPath   = prefix + "/uploads"
	chunkType     = "application/offset+octet-stream"
)

// receiveFor is how long one chunk may take to arrive: what is there then is kept.
const receiveFor = time.Minute

// resumable does what tus asks of all requests to uploads.
func (a *api) resumable(w http.ResponseWriter, r *http.Request) {
	if a.Attachments == nil || r.URL.Path != uploadsPath && !strings.HasPrefix(r.URL.Path, uploadsPath+"/") {
		return
	}
	h := w.Header()
	h.Set("Tus-Resumable", tusVersion)
	h.Set("Tus-Version", tusVersion)
	// For clients between which and us something knows neither PATCH nor DELETE.
	if m := r.Header.Get("X-HTTP-Method-Override"); r.Method == http.MethodPost && (m == http.MethodPatch || m == http.MethodDelete || m == http.MethodHead) {
		r.Method = m
	}
}

// speaksTus refuses clients of another version than ours.
func speaksTus(version string) error {
	if version == tusVersion {
		return nil
	}
	return newProblem(http.StatusPreconditionFailed, "bad_tus_version", "send Tus-Resumable: "+tusVersion)
}

// UploadState is a file on its way.
type UploadState struct {
	ID        string    `json:"id" doc:"UUID: what a message's attachments name it by, once it is finished"`
	Name      string    `json:"name"`
	Length    int64     `json:"length" doc:"Bytes"`
	Offset    int64     `json:"offset" doc:"Bytes that are there"`
	Finished  bool      `json:"finished"`
	Type      string    `json:"type" doc:"Media type, by its content; empty until it is finished"`
	ExpiresAt time.Time `json:"expires_at" doc:"It is forgotten then, unless a message has it"`
}

// UploadHeaders are those of tus. Exported: of what is embedded, huma sees no other. Exported: huma sets no header from an embedded type
// that is not.
type UploadHeaders struct {
	Offset  string `header:"Upload-Offset"`
	Length  string `header:"Upload-Length"`
	Expires string `header:"Upload-Expires"`
}

func headersOf(u attachments.Upload) UploadHeaders {
	return UploadHeaders{strconv.FormatInt(u.Offset, 10), strconv.FormatInt(u.Length, 10), u.Expires.UTC().Format(http.TimeFormat)}
}

func uploadID(s string) (uuid.UUID, error) {
	id, err := uuid.Parse(s)
	if err != nil || id.String() != s {
		return id, attachments.ErrNoUpload
	}
	return id, nil
}

// chunkInput is a PATCH: its body is read as it comes, so that what arrived is not
// lost with the connection.
type chunkInput struct {
	ID          string `path:"upload_id"`
	Version     string `header:"Tus-Resumable"`
	Offset      string `header:"Upload-Offset" doc:"Where in the file the body begins"`
	ContentType string `header:"Content-Type"`

	request *http.Request
	writer  http.ResponseWriter
}

// Resolve satisfies huma.Resolver.
func (in *chunkInput) Resolve(ctx huma.Context) []error {
	in.request, in.writer = humachi.Unwrap(ctx)
	return nil
}

const tagAttachments = "attachments"

func (a *api) attachmentOperations(mux *chi.Mux) {
	store := a.Attachments
	mux.Options(uploadsPath, func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Tus-Version", tusVersion)
		h.Set("Tus-Extension", tusExtensions)
		h.Set("Tus-Max-Size", strconv.FormatInt(store.MaxFile(), 10))
		w.WriteHeader(http.StatusNoContent)
	})

	type beginInput struct {
		Version  string `header:"Tus-Resumable"`
		Length   string `header:"Upload-Length" doc:"Bytes of the file"`
		Metadata string `header:"Upload-Metadata" doc:"As in tus 1.0.0: filename and its value in base64; others are ignored"`
	}
	type beginOutput struct {
		Location string `header:"Location" doc:"Where the chunks go; its last part is the file's id"`
		UploadHeaders
	}
	register(a, operation{
		id: "create-upload", method: http.MethodPost, path: "/uploads", tag: tagAttachments, status: http.StatusCreated,
		summary: "Begin to upload a file, for a message (tus 1.0.0, creation)", refuses: []int{http.StatusPreconditionFailed},
		apart: "an upload that nothing is sent to is forgotten after a day",
	}, func(ctx context.Context, in *beginInput) (*beginOutput, error) {
		if err := speaksTus(in.Version); err != nil {
			return nil, err
		}
		length, err := strconv.ParseInt(in.Length, 10, 64)
		if err != nil {
			return nil, attachments.ErrBadUpload
		}
		u, err := store.Create(ctx, caller(ctx).User, length, in.Metadata)
		if err != nil {
			return nil, err
		}
		return &beginOutput{uploadsPath + "/" + u.ID.String(), headersOf(u)}, nil
	})

	type uploadInput struct {
		ID      string `path:"upload_id"`
		Version string `header:"Tus-Resumable"`
	}
	type uploadOutput struct {
		UploadHeaders
		Body UploadState
	}
	register(a, operation{
		id: "get-upload", method: http.MethodGet, path: "/uploads/{upload_id}", tag: tagAttachments,
		summary: "How much of one's own upload is there; HEAD as in tus 1.0.0",
	}, func(ctx context.Context, in *uploadInput) (*uploadOutput, error) {
		id, err := uploadID(in.ID)
		if err != nil {
			return nil, err
		}
		u, err := store.Upload(ctx, caller(ctx).User, id)
		if err != nil {
			return nil, err
		}
		return &uploadOutput{headersOf(u), UploadState{u.ID.String(), u.Name, u.Length, u.Offset, u.Finished, u.Type, u.Expires}}, nil
	})

	type chunkOutput struct{ UploadHeaders }
	register(a, operation{
		id: "append-upload", method: http.MethodPatch, path: "/uploads/{upload_id}", tag: tagAttachments, status: http.StatusNoContent,
		summary: "Send a chunk of a file, at most 8 MiB, from the offset where the upload is (tus 1.0.0)",
		body:    attachments.MaxChunk, refuses: []int{http.StatusPreconditionFailed},
		apart: "a chunk counts only at the offset where the upload is",
	}, func(ctx context.Context, in *chunkInput) (*chunkOutput, error) {
		if err := speaksTus(in.Version); err != nil {
			return nil, err
		}
		if in.ContentType != chunkType {
			return nil, newProblem(http.StatusUnsupportedMediaType, "unsupported_media_type", "send "+chunkType)
		}
		id, err := uploadID(in.ID)
		if err != nil {
			return nil, err
		}
		offset, err := strconv.ParseInt(in.Offset, 10, 64)
		if err != nil || offset < 0 {
			return nil, errBadOffset
		}
		c := http.NewResponseController(in.writer) // a server that knows no deadlines has none
		_ = c.SetReadDeadline(time.Now().Add(receiveFor))
		_ = c.SetWriteDeadline(time.Now().Add(2 * receiveFor))
		u, err := store.Append(ctx, caller(ctx).User, id, offset, in.request.Body)
		if err != nil {
			return nil, err
		}
		return &chunkOutput{headersOf(u)}, nil
	})

	register(a, operation{
		id: "delete-upload", method: http.MethodDelete, path: "/uploads/{upload_id}", tag: tagAttachments, status: http.StatusNoContent,
		summary: "Give up an upload that is in no message (tus 1.0.0, termination)", refuses: []int{http.StatusPreconditionFailed},
		apart: "an upload that is gone stays so",
	}, func(ctx context.Context, in *uploadInput) (*struct{}, error) {
		if err := speaksTus(in.Version); err != nil {
			return nil, err
		}
		id, err := uploadID(in.ID)
		if err != nil {
			return nil, err
		}
		return nil, store.Delete(ctx, caller(ctx).User, id)
	})

	type linkInput struct {
		Room      string `path:"room" maxLength:"128"`
		ID        string `path:"attachment_id"`
		Thumbnail bool   `query:"thumbnail" doc:"The small JPEG of an image, which not every one has"`
	}
	type linkOutput struct {
		Body struct {
			URL       string    `json:"url"`
			ExpiresAt time.Time `json:"expires_at"`
		}
	}
	register(a, operation{
		id: "get-attachment", method: http.MethodGet, path: "/conversations/{room}/attachments/{attachment_id}", tag: tagAttachments,
		summary: "Where a file of a message is to be had, for five minutes, without a token, as long as the message is there",
	}, func(ctx context.Context, in *linkInput) (*linkOutput, error) {
		if _, err := a.conversation(ctx, in.Room); err != nil {
			return nil, err
		}
		id, err := uuid.Parse(in.ID)
		if err != nil || id.String() != in.ID {
			return nil, attachments.ErrNoFile
		}
		link, err := store.Link(ctx, in.Room, id, in.Thumbnail)
		if err != nil {
			return nil, err
		}
		out := &linkOutput{}
		out.Body.URL, out.Body.ExpiresAt = link.URL, link.Expires
		return out, nil
	})

	type fileInput struct {
		Token string `path:"file_token" doc:"Of the URL of a file"`
	}
	type fileOutput struct{ Body func(huma.Context) }
	register(a, operation{
		id: "get-file", method: http.MethodGet, path: "/files/{file_token}", tag: tagAttachments, public: true, limited: true,
		summary: "A file of a message, or a part of it (Range)", media: "application/octet-stream",
		refuses: []int{http.StatusPartialContent, http.StatusNotModified, http.StatusNotFound, http.StatusRequestedRangeNotSatisfiable},
	}, func(ctx context.Context, in *fileInput) (*fileOutput, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), downloadFor) // a request's is too short; that the client has gone is seen at writing
		f, err := store.Open(ctx, in.Token)
		if err != nil {
			cancel()
			return nil, err
		}
		return &fileOutput{func(hc huma.Context) {
			defer cancel()
			defer f.Close()
			r, w := humachi.Unwrap(hc)
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(downloadFor))
			h := w.Header()
			h.Set("Content-Type", f.Type)
			h.Set("Content-Disposition", f.Disposition)
			h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
			h.Set("Cross-Origin-Resource-Policy", "cross-origin")
			h.Set("Cache-Control", "private, max-age=300")
			h.Set("ETag", f.Tag)
			http.ServeContent(w, r, "", time.Time{}, f)
		}}, nil
	})
}

var errBadOffset = errs.New(errs.Invalid, "bad_upload", "Upload-Offset is a number of bytes").At("header.Upload-Offset")
