package node

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	neturl "net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/db/devdb"
)

// What muster dev would mail is in its mailbox, links and all; and what an
// operator announces is in everybody's list.
func TestMailboxAndAnnouncements(t *testing.T) {
	var box mailbox
	m, err := NewMesh(MeshConfig{
		Regions: 1, Nodes: 1, DB: devdb.Test(t), Secret: []byte(strings.Repeat("s", 32)), InviteBase: "https://muster.test/join/",
		Notify: NotifyConfig{From: "Muster <no-reply@muster.test>", Mail: &box},
	})
	require.NoError(t, err)
	require.NoError(t, m.Start(t.Context()))
	t.Cleanup(m.Stop)
	api := m.Topology.Regions[0].Nodes[0].HTTP + "/api/v1"
	pages := httptest.NewServer(box.handler())
	t.Cleanup(pages.Close)
	control := httptest.NewServer(m.control())
	t.Cleanup(control.Close)

	ask := func(method, url, token string, body any) (int, []byte, http.Header) {
		t.Helper()
		b, err := json.Marshal(body)
		require.NoError(t, err)
		req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(b))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, answer, resp.Header
	}
	status, answer, _ := ask("POST", api+"/auth/register", "", map[string]any{"username": "Zoë", "email": "zoe@example.org", "password": "correct horse battery", "device_info": map[string]any{}})
	require.Less(t, status, 300, "%s", answer)
	var signed struct{ Token string }
	require.NoError(t, json.Unmarshal(answer, &signed))

	var mails []devMail
	require.Eventually(t, func() bool {
		_, answer, _ := ask("GET", pages.URL+"/dev/mail.json?to=Zoe@example.org", "", nil)
		require.NoError(t, json.Unmarshal(answer, &mails))
		return len(mails) > 0
	}, 20*time.Second, 50*time.Millisecond)
	first := mails[len(mails)-1]
	require.Equal(t, "Confirm your mail address", first.Subject)
	link := regexp.MustCompile(`https://muster\.test/#/verify/(\S+)`).FindStringSubmatch(first.Text)
	require.NotNil(t, link, first.Text)
	status, answer, _ = ask("POST", api+"/auth/verify", "", map[string]any{"token": link[1]})
	require.Less(t, status, 300, "%s", answer)

	_, page, _ := ask("GET", pages.URL+"/dev/mail", "", nil)
	require.Contains(t, string(page), "Confirm your mail address")
	_, page, header := ask("GET", pages.URL+"/dev/mail/"+first.ID, "", nil)
	require.Contains(t, string(page), "Confirm your mail address")
	require.Contains(t, header.Get("Content-Security-Policy"), "sandbox")
	_, none, _ := ask("GET", pages.URL+"/dev/mail.json?to=eve@example.org", "", nil)
	require.JSONEq(t, `[]`, string(none))

	announce := neturl.Values{"title": {"Maintenance"}, "text": {"On Sunday at six.\n\nIt takes an hour."}}
	status, answer, _ = ask("POST", control.URL+"/ctl/announce?"+announce.Encode(), "", nil)
	require.Less(t, status, 300, "%s", answer)
	require.Eventually(t, func() bool {
		_, answer, _ := ask("GET", api+"/notifications", signed.Token, nil)
		return strings.Contains(string(answer), `"title":"Maintenance"`)
	}, 20*time.Second, 50*time.Millisecond)
	require.Eventually(t, func() bool { return len(box.list("zoe@example.org")) > len(mails) }, 20*time.Second, 50*time.Millisecond, "the address is confirmed, so it is mailed, too")
	status, _, _ = ask("POST", control.URL+"/ctl/announce?title=x", "", nil)
	require.Equal(t, 400, status)
}
