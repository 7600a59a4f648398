package httpapi

import (
	"bytes"
	"image"
	_ "image/jpeg"
	"image/png"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/attachments"
	"github.com/mustermesh/muster/core/jobs"
	"github.com/mustermesh/muster/core/objects"
	"github.com/mustermesh/muster/core/objects/dir"
	"github.com/mustermesh/muster/core/objects/images"
	"github.com/mustermesh/muster/core/privacy"
	"github.com/mustermesh/muster/core/users"
)

// withObjects adds to an API what needs a store of objects: pictures, cards,
// exports and the end of accounts.
func withObjects(t *testing.T, cfg *Config) {
	files, err := dir.Open(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, files.Close()) })
	catalog := objects.NewCatalog(cfg.DB, files, cfg.Now)
	cfg.Pictures = users.NewPictures(cfg.Users, catalog, "https://example.org/api/v1/pictures/", images.NewTurn())
	cfg.Attachments, err = attachments.New(cfg.DB, catalog, cfg.Secret, attachments.Config{Base: "https://example.org", Now: cfg.Now})
	require.NoError(t, err)
	cfg.Cards, err = users.NewCards(cfg.Users, users.CardsConfig{Hidden: cfg.Location.Blocks.Parted})
	require.NoError(t, err)
	cfg.Privacy, err = privacy.New(cfg.DB, cfg.Secret, privacy.Config{
		Accounts: cfg.Auth, Groups: cfg.Groups, Objects: catalog, Now: cfg.Now, Base: "https://example.org",
	})
	require.NoError(t, err)
}

// picture is an image of the given side.
func picture(side int) []byte {
	var b bytes.Buffer
	_ = png.Encode(&b, image.NewGray(image.Rect(0, 0, side, side))) // into memory: never fails
	return b.Bytes()
}

func TestPictures(t *testing.T) {
	b := setup(t)
	ana := b.guest("Ana")
	upload := func(body []byte, kind string) answer {
		return b.request("PUT", "/users/profile/picture", ana.token, body, "Content-Type", kind)
	}
	a := upload(picture(200), "image/png")
	require.Equal(t, 200, a.StatusCode, "%s", a.raw)
	url := a.body["user"].(obj)["profile_picture"].(string)
	path, ok := strings.CutPrefix(url, "https://example.org"+prefix)
	require.True(t, ok)
	require.Equal(t, url, b.ok("GET", "/users/profile", ana.token, nil).str("profile_picture"))

	for query, side := range map[string]int{"": 256, "?size=64": 64, "?size=1024": 1024} {
		got := b.ok("GET", path+query, "", nil)
		require.Equal(t, "image/jpeg", got.Header.Get("Content-Type"))
		require.Equal(t, pictureFor, got.Header.Get("Cache-Control"))
		m, _, err := image.Decode(bytes.NewReader(got.raw))
		require.NoError(t, err)
		require.Equal(t, side, m.Bounds().Dx())
		again := b.request("GET", path+query, "", nil, "If-None-Match", got.Header.Get("ETag"))
		require.Equal(t, http.StatusNotModified, again.StatusCode)
		require.Empty(t, again.raw)
	}
	b.refused(400, "bad_request", "GET", path+"?size=65", "", nil)
	b.refused(404, "object_not_found", "GET", "/pictures/x", "", nil)
	b.refused(404, "object_not_found", "GET", "/pictures/00000000-0000-4000-8000-000000000000", "", nil)

	// A form with a file will do as well.
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	require.NoError(t, w.WriteField("name", "x"))
	part, err := w.CreateFormFile("picture", "me.png")
	require.NoError(t, err)
	_, err = part.Write(picture(100))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	a = upload(form.Bytes(), w.FormDataContentType())
	require.Equal(t, 200, a.StatusCode, "%s", a.raw)
	require.NotEqual(t, url, a.body["user"].(obj)["profile_picture"])

	for kind, body := range map[string][]byte{"image/png": []byte("<html>"), "image/svg+xml": []byte("<svg/>"), "multipart/form-data; boundary=x": []byte("--x--"), "multipart/form-data": nil} {
		a := upload(body, kind)
		require.Equal(t, 400, a.StatusCode, "%s: %s", kind, a.raw)
	}
	big := bytes.Repeat([]byte{0xff}, users.MaxPicture+formOverhead+2)
	b.refused(413, "too_large", "PUT", "/users/profile/picture", ana.token, big, "Content-Type", "image/jpeg")
	b.refused(413, "too_large", "PUT", "/users/profile/picture", ana.token, big[:users.MaxPicture+1], "Content-Type", "image/jpeg")
	b.refused(413, "too_large", "PUT", "/users/profile", ana.token, big[:100_000]) // elsewhere the limit is what it was
	b.refused(401, "unauthenticated", "PUT", "/users/profile/picture", "", picture(100), "Content-Type", "image/png")
}

func TestCards(t *testing.T) {
	b := setup(t)
	ana, bob, eve := b.guest("Ana"), b.guest("Bob"), b.guest("Eve")
	a := b.ok("GET", "/users/"+ana.id, bob.token, nil)
	require.Equal(t, obj{"user_id": ana.id, "username": "Ana", "profile_picture": "", "rating": obj{"count": 0.0, "ranking": 3.0}}, a.body)
	require.Equal(t, "private, no-cache", a.Header.Get("Cache-Control"))
	etag := a.Header.Get("ETag")
	again := b.request("GET", "/users/"+ana.id, bob.token, nil, "If-None-Match", etag)
	require.Equal(t, http.StatusNotModified, again.StatusCode)
	require.Empty(t, again.raw)
	b.ok("PUT", "/users/profile", ana.token, obj{"username": "Ana Lima"})
	again = b.request("GET", "/users/"+ana.id, bob.token, nil, "If-None-Match", etag)
	require.Equal(t, 200, again.StatusCode)
	require.Equal(t, "Ana Lima", again.str("username"))

	b.ok("POST", "/blocks", ana.token, obj{"user_id": eve.id})
	b.refused(404, "user_not_found", "GET", "/users/"+ana.id, eve.token, nil, "If-None-Match", etag)
	b.refused(404, "user_not_found", "GET", "/users/"+eve.id, ana.token, nil)
	b.refused(400, "bad_request", "GET", "/users/x", ana.token, nil)
	b.refused(404, "user_not_found", "GET", "/users/00000000-0000-4000-8000-000000000000", ana.token, nil)
}

func TestDeleteProfile(t *testing.T) {
	var store *privacy.Store
	b := setup(t, func(cfg *Config) { store = cfg.Privacy })
	a := b.ok("POST", "/auth/register", "", obj{"username": "Ana", "email": "ana@example.org", "password": "correct horse", "device_info": obj{}})
	ana, bob := person{a.str("user_id"), a.str("token"), a.str("refresh_token")}, b.guest("Bob")
	group := b.group(ana, bob)

	b.refused(404, "export_not_found", "GET", "/users/export", ana.token, nil)
	e := b.ok("POST", "/users/export", ana.token, nil)
	require.Equal(t, 202, e.StatusCode)
	require.Equal(t, "making", e.str("state"))
	q := jobs.New(b.db, jobs.Config{})
	store.Handle(q)
	require.NoError(t, q.Start(t.Context()))
	t.Cleanup(q.Stop)
	require.Eventually(t, func() bool {
		e = b.ok("GET", "/users/export", ana.token, nil)
		return e.str("state") == "ready"
	}, 20*time.Second, 20*time.Millisecond)
	link := strings.TrimPrefix(e.str("url"), "https://example.org"+prefix)
	got := b.ok("GET", link, "", nil)
	require.Equal(t, ana.id, got.str("user_id"))
	require.Contains(t, got.Header.Get("Content-Disposition"), "attachment")
	require.Equal(t, "no-store", got.Header.Get("Cache-Control"))
	b.refused(404, "export_not_found", "GET", "/exports/x", "", nil)

	b.refused(403, "wrong_password", "DELETE", "/users/profile", ana.token, obj{"password": "wrong horse"})
	b.refused(403, "wrong_password", "DELETE", "/users/profile", ana.token, nil)
	key := []string{"Idempotency-Key", "one"}
	require.Equal(t, true, b.ok("DELETE", "/users/profile", ana.token, obj{"password": "correct horse"}, key...).body["success"])
	b.refused(401, "signed_out", "GET", "/users/profile", ana.token, nil)
	b.refused(401, "signed_out", "DELETE", "/users/profile", ana.token, obj{"password": "correct horse"}, key...)
	b.refused(401, "refresh_invalid", "POST", "/auth/refresh", "", obj{"refresh_token": ana.refresh})
	b.refused(401, "invalid_credentials", "POST", "/auth/login", "", obj{"email": "ana@example.org", "password": "correct horse", "device_info": obj{}})
	b.refused(404, "user_not_found", "GET", "/users/"+ana.id, bob.token, nil)
	require.Eventually(t, func() bool {
		return len(b.ok("GET", "/groups/"+group, bob.token, nil).body["members"].([]any)) == 1
	}, 20*time.Second, 20*time.Millisecond)
	require.Equal(t, "owner", b.ok("GET", "/groups/"+group, bob.token, nil).body["members"].([]any)[0].(obj)["role"])
	require.Eventually(t, func() bool { return b.request("GET", link, "", nil).StatusCode == 404 }, 20*time.Second, 20*time.Millisecond)

	// A guest has no password.
	require.Equal(t, true, b.ok("DELETE", "/users/profile", bob.token, nil).body["success"])
	b.refused(401, "signed_out", "GET", "/users/profile", bob.token, nil)
}
