package httpapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/mustermesh/muster/core/objects"
	"github.com/mustermesh/muster/core/users"
	"github.com/mustermesh/muster/internal/errs"
)

// pictureFor is how long whoever has a picture may show it without asking: what is
// under an id never changes, and a picture that was deleted is to be gone some day.
const pictureFor = "public, max-age=86400"

// formOverhead is what a form adds to a picture.
const formOverhead = 4 << 10

func (a *api) pictureOperations() {
	const tag = "users"

	type uploadInput struct {
		ContentType string `header:"Content-Type" doc:"image/…, or multipart/form-data with one file"`
		RawBody     []byte `contentType:"image/*"`
	}
	register(a, operation{
		id: "put-picture", method: http.MethodPut, path: "/users/profile/picture", tag: tag, limited: true,
		summary: "Upload the signed-in user's picture: JPEG, PNG, GIF or WebP, at most 5 MiB and 16 million pixels",
		body:    users.MaxPicture + formOverhead,
		apart:   "pictures are stored before the transaction; the same image again is the same picture at another URL",
	}, func(ctx context.Context, in *uploadInput) (*profileAnswer, error) {
		data, err := uploaded(in.ContentType, in.RawBody)
		if err != nil {
			return nil, err
		}
		p, err := a.Pictures.Set(ctx, caller(ctx).User, data)
		if err != nil {
			return nil, err
		}
		return answerProfile(p), nil
	})

	type pictureInput struct {
		ID          string `path:"picture_id" doc:"The last part of the URL of an uploaded picture"`
		Size        string `query:"size" enum:"64,256,1024" default:"256" doc:"Pixels of a side"`
		IfNoneMatch string `header:"If-None-Match"`
	}
	type pictureOutput struct {
		Status       int
		ContentType  string `header:"Content-Type"`
		CacheControl string `header:"Cache-Control"`
		ETag         string `header:"ETag"`
		Body         []byte
	}
	register(a, operation{
		id: "get-picture", method: http.MethodGet, path: "/pictures/{picture_id}", tag: tag, summary: "An uploaded picture", public: true,
		media: "image/jpeg", refuses: []int{http.StatusNotModified, http.StatusNotFound},
	}, func(ctx context.Context, in *pictureInput) (*pictureOutput, error) {
		id, err := uuid.Parse(in.ID)
		if err != nil || id.String() != in.ID {
			return nil, objects.ErrNotFound
		}
		out := &pictureOutput{Status: http.StatusOK, CacheControl: pictureFor, ETag: `"` + in.ID + `"`}
		size, _ := strconv.Atoi(in.Size) // it is one of those
		o, err := a.Pictures.Get(ctx, id, size)
		if err != nil {
			return nil, err
		}
		defer o.Body.Close()
		if matches(in.IfNoneMatch, out.ETag) {
			out.Status = http.StatusNotModified
			return out, nil
		}
		out.ContentType = o.Type
		if out.Body, err = io.ReadAll(o.Body); err != nil {
			return nil, err
		}
		return out, nil
	})
}

var errNoFile = errs.New(errs.Invalid, "bad_request", "a form has one file: the picture").At("body")

// uploaded returns the picture of a request: its body, or the file of a form.
func uploaded(contentType string, body []byte) ([]byte, error) {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil || kind != "multipart/form-data" {
		return body, nil
	}
	form := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	for {
		part, err := form.NextPart()
		if err != nil {
			return nil, errNoFile
		}
		if part.FileName() == "" {
			continue
		}
		data, err := io.ReadAll(part)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errNoFile
		}
		return data, err
	}
}

// matches is the comparison of If-None-Match (RFC 9110 section 13.1.2).
func matches(header, etag string) bool {
	return strings.TrimSpace(header) == "*" || slices.ContainsFunc(strings.Split(header, ","), func(s string) bool {
		return strings.TrimPrefix(strings.TrimSpace(s), "W/") == etag
	})
}
