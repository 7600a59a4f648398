package client

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// tusServer keeps one upload. Chunks meet the faults that are queued, one each.
type tusServer struct {
	*httptest.Server

	mu     sync.Mutex
	data   []byte
	length int
	name   string
	faults []func(w http.ResponseWriter, r *http.Request) (done bool)
	asked  []string
	fresh  bool // of two access tokens the second is good
}

func newTusServer(t *testing.T) *tusServer {
	x := &tusServer{}
	x.Server = httptest.NewServer(http.HandlerFunc(x.serve))
	t.Cleanup(x.Close)
	return x
}

func refuseWith(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"code": code})
}

func (x *tusServer) serve(w http.ResponseWriter, r *http.Request) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.asked = append(x.asked, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.Header.Get("Upload-Offset")))
	if r.URL.Path == "/api/v1/auth/refresh" {
		x.fresh = true
		_ = json.NewEncoder(w).Encode(Credentials{UserID: "u", Token: "fresh", RefreshToken: "s"})
		return
	}
	if x.fresh && r.Header.Get("Authorization") != "Bearer fresh" {
		refuseWith(w, 401, "token_expired")
		return
	}
	if r.Method != http.MethodGet && r.Header.Get("Tus-Resumable") != "1.0.0" {
		refuseWith(w, 412, "bad_tus_version")
		return
	}
	switch r.Method {
	case http.MethodPost:
		x.length, _ = strconv.Atoi(r.Header.Get("Upload-Length"))
		x.name = r.Header.Get("Upload-Metadata")
		w.Header().Set("Location", "/api/v1/uploads/one")
		w.WriteHeader(http.StatusCreated)
	case http.MethodGet:
		_ = json.NewEncoder(w).Encode(Upload{ID: "one", Length: int64(x.length), Offset: int64(len(x.data)), Finished: len(x.data) == x.length, Type: "text/plain"})
	case http.MethodPatch:
		if len(x.faults) > 0 {
			fault := x.faults[0]
			x.faults = x.faults[1:]
			if fault(w, r) {
				return
			}
		}
		if r.Header.Get("Upload-Offset") != strconv.Itoa(len(x.data)) {
			refuseWith(w, 409, "upload_offset")
			return
		}
		x.take(r, -1)
		w.Header().Set("Upload-Offset", strconv.Itoa(len(x.data)))
		w.WriteHeader(http.StatusNoContent)
	case http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	}
}

// take keeps so many bytes of a chunk; all of it if negative.
func (x *tusServer) take(r *http.Request, n int64) {
	if n < 0 {
		n = r.ContentLength
	}
	b, _ := io.ReadAll(io.LimitReader(r.Body, n))
	x.data = append(x.data, b...)
}

func (x *tusServer) api() *API {
	return NewAPI(x.URL, APIConfig{Credentials: Credentials{UserID: "u", Token: "t", RefreshToken: "r"}})
}

func (x *tusServer) heard(method string) (out []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, a := range x.asked {
		if strings.HasPrefix(a, method) {
			out = append(out, a)
		}
	}
	return out
}

// kept is what is there.
func (x *tusServer) kept() []byte {
	x.mu.Lock()
	defer x.mu.Unlock()
	return bytes.Clone(x.data)
}

func fileOf(size int) (UploadFile, []byte) {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i >> 4)
	}
	return UploadFile{Name: "Ümläut.txt", Size: int64(size), Content: bytes.NewReader(b)}, b
}

func breakOff(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }

// Whatever happens to a chunk, an upload goes on where it is, and each byte is there once.
func TestUploadGoesOn(t *testing.T) {
	x := newTusServer(t)
	x.faults = []func(http.ResponseWriter, *http.Request) bool{
		func(_ http.ResponseWriter, r *http.Request) bool { // a part arrives
			x.take(r, 1<<20)
			panic(http.ErrAbortHandler)
		},
		func(_ http.ResponseWriter, r *http.Request) bool { // all arrives, and the answer is lost
			x.take(r, -1)
			panic(http.ErrAbortHandler)
		},
		func(w http.ResponseWriter, _ *http.Request) bool {
			refuseWith(w, 503, "retry")
			return true
		},
		func(w http.ResponseWriter, _ *http.Request) bool { // the token ends in the middle
			x.fresh = true
			refuseWith(w, 401, "token_expired")
			return true
		},
		breakOff,
		func(w http.ResponseWriter, r *http.Request) bool { // another process was here
			x.data = append(x.data, 0)
			x.data[len(x.data)-1] = byte((len(x.data) - 1) >> 4)
			return false
		},
	}
	f, want := fileOf(2*uploadChunk + 3<<20)
	var progress []int64
	f.Progress = func(sent int64) { progress = append(progress, sent) }
	u, err := x.api().Upload(t.Context(), f)
	require.NoError(t, err)
	require.True(t, u.Finished)
	require.Equal(t, "one", u.ID)
	require.Equal(t, "text/plain", u.Type)
	require.True(t, bytes.Equal(want, x.kept()))
	require.Equal(t, "filename w5xtbMOkdXQudHh0", x.name)
	require.IsNonDecreasing(t, progress)
	require.EqualValues(t, len(want), progress[len(progress)-1])
	require.Len(t, x.heard("POST /api/v1/uploads"), 1)
}

func TestUploadEnds(t *testing.T) {
	t.Run("it is refused", func(t *testing.T) {
		x := newTusServer(t)
		x.faults = append(x.faults, func(w http.ResponseWriter, _ *http.Request) bool {
			refuseWith(w, 400, "file_type_refused")
			return true
		})
		f, _ := fileOf(10)
		u, err := x.api().Upload(t.Context(), f)
		require.True(t, IsCode(err, "file_type_refused"), "%v", err)
		require.Equal(t, "one", u.ID)
		require.Len(t, x.heard("PATCH"), 1)
	})
	t.Run("nothing comes of it, until later", func(t *testing.T) {
		x := newTusServer(t)
		for range uploadTries + 1 {
			x.faults = append(x.faults, func(w http.ResponseWriter, _ *http.Request) bool {
				refuseWith(w, 500, "internal")
				return true
			})
		}
		f, want := fileOf(10)
		u, err := x.api().Upload(t.Context(), f)
		require.True(t, IsCode(err, "internal"), "%v", err)
		require.Len(t, x.heard("PATCH"), uploadTries+1)
		u, err = x.api().ContinueUpload(t.Context(), u.ID, f)
		require.NoError(t, err)
		require.True(t, u.Finished)
		require.Equal(t, want, x.kept())
		asked := len(x.heard("PATCH"))
		_, err = x.api().ContinueUpload(t.Context(), u.ID, f)
		require.NoError(t, err, "it is there already")
		require.Len(t, x.heard("PATCH"), asked)

		other, _ := fileOf(11)
		_, err = x.api().ContinueUpload(t.Context(), u.ID, other)
		require.ErrorContains(t, err, "another file")
		require.NoError(t, x.api().DeleteUpload(t.Context(), u.ID))
	})
	t.Run("the file is shorter than it says", func(t *testing.T) {
		x := newTusServer(t)
		f, _ := fileOf(10)
		f.Size = 20
		_, err := x.api().Upload(t.Context(), f)
		require.ErrorIs(t, err, io.EOF)
		require.Empty(t, x.heard("PATCH"))
	})
}
