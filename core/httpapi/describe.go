package httpapi

import (
	"cmp"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// parameters are those that operations have in common.
func (o operation) parameters() []*huma.Param {
	if !o.writes() {
		return nil
	}
	key := &huma.Param{
		Name: keyHeader, In: "header", Schema: &huma.Schema{Type: "string", MaxLength: new(maxKey)},
		Description: "Makes a repeated request harmless: it is carried out once, and the first answer comes again",
	}
	switch {
	case o.apart != "":
		key.Description = "Not used here: " + o.apart
	case o.public:
		key.Schema.MinLength = new(minPublicKey)
	}
	return []*huma.Param{key}
}

// responses are an operation's failures: those that follow from what it is, and its
// own.
func (a *api) responses(o operation) map[string]*huma.Response {
	statuses := []int{http.StatusBadRequest, http.StatusInternalServerError, http.StatusServiceUnavailable}
	if o.limited || !o.public {
		statuses = append(statuses, http.StatusTooManyRequests)
	}
	if !o.public {
		statuses = append(statuses, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound)
	}
	if o.writes() {
		statuses = append(statuses, http.StatusConflict, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	problem := a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Problem](), true, "Problem")
	responses := map[string]*huma.Response{}
	if o.media != "" {
		success := &huma.Response{
			Content: map[string]*huma.MediaType{},
		}
		for _, kind := range strings.Fields(o.media) {
			success.Content[kind] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}
		}
		responses[strconv.Itoa(cmp.Or(o.status, http.StatusOK))] = success
	}
	for _, status := range append(statuses, o.refuses...) {
		r := &huma.Response{Description: http.StatusText(status)}
		if status >= http.StatusBadRequest {
			r.Content = map[string]*huma.MediaType{"application/problem+json": {Schema: problem}}
		}
		switch status {
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			r.Headers = map[string]*huma.Param{"Retry-After": {Description: "Seconds", Schema: &huma.Schema{Type: "integer"}}}
		case http.StatusUnauthorized:
			r.Headers = map[string]*huma.Param{"WWW-Authenticate": {Schema: &huma.Schema{Type: "string"}}}
		}
		responses[strconv.Itoa(status)] = r
	}
	return responses
}

// describe adds to the document what is said of every answer.
func (o operation) describe(doc *huma.OpenAPI) {
	item := doc.Paths[prefix+o.path]
	op := map[string]*huma.Operation{
		http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodPut: item.Put, http.MethodPatch: item.Patch, http.MethodDelete: item.Delete,
	}[o.method]
	text := func(says string) *huma.Param {
		return &huma.Param{Description: says, Schema: &huma.Schema{Type: "string"}}
	}
	for status, r := range op.Responses {
		if r.Headers == nil {
			r.Headers = map[string]*huma.Param{}
		}
		if o.limited || !o.public {
			r.Headers["RateLimit-Policy"] = text("The limits that count this request: of each q requests in w seconds")
			r.Headers["RateLimit"] = text("What is left of them: r requests, and all in t seconds")
		}
		if o.writes() && o.apart == "" && !slices.Contains([]string{"400", "500", "503"}, status) {
			r.Headers[replayedHeader] = text("true: this was answered before, under the same Idempotency-Key")
		}
	}
	if o.writes() && o.apart != "" {
		op.Description = strings.TrimSpace(op.Description + "\n\nA repeated request: " + o.apart + ".")
	}
}
