package cred

import (
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var now = time.Unix(1_800_000_000, 0)

func TestKnownValues(t *testing.T) {
	// The names of RFC 5769 section 2.4: printf マトリックス:example.org:TheMatrIX | md5sum
	key := KeyOf("マトリックス", "example.org", "TheMatrIX")
	require.Equal(t, "e8ca7ad59d5eb0518e312911d2dab2a9", hex.EncodeToString(key[:]))
	// echo -n 1800003600:anna | openssl dgst -sha1 -hmac "0123456789abcdef" -binary | base64
	username, password := Mint("0123456789abcdef", "anna", now, time.Hour)
	require.Equal(t, "1800003600:anna", username)
	require.Equal(t, "WznvPqPLAr/85sNTBXVYbN6jUIc=", password)
}

func TestCheck(t *testing.T) {
	old, new := strings.Repeat("o", 32), strings.Repeat("n", 32)
	username, password := Mint(old, "anna", now, time.Hour)
	both := Secrets{new, old}
	require.NoError(t, both.Validate())

	user, err := both.Check(username, password, now)
	require.NoError(t, err, "what the secret before minted goes on")
	require.Equal(t, "anna", user)
	u2, p2 := both.Mint("anna", now, time.Hour)
	require.Equal(t, username, u2)
	require.NotEqual(t, password, p2, "the first one mints")
	_, err = Secrets{new}.Check(username, password, now)
	require.ErrorIs(t, err, ErrPassword, "until it is taken away")

	_, err = both.Check(username, password, now.Add(time.Hour))
	require.ErrorIs(t, err, ErrExpired)
	_, err = both.Check(strings.Replace(username, "anna", "otto", 1), password, now)
	require.ErrorIs(t, err, ErrPassword, "somebody else's name")
	_, err = both.Check("9"+username, password, now)
	require.ErrorIs(t, err, ErrPassword, "a later end")
	for _, bad := range []string{"", ":", "anna", "1800003600:", "-1:anna", "+1:anna", "1e9:anna", "9999999999999:anna", "1:a\nb", "1:" + strings.Repeat("x", 257)} {
		_, err = both.Check(bad, password, now)
		require.ErrorIs(t, err, ErrMalformed, "%q", bad)
	}
	require.Error(t, Secrets{}.Validate())
	require.ErrorContains(t, Secrets{"short"}.Validate(), "16 bytes")
}

func TestKeysAreThoseOfThePasswords(t *testing.T) {
	s := Secrets{strings.Repeat("a", 16), strings.Repeat("b", 16)}
	require.Equal(t, []Key{KeyOf("1:u", "r", Password(s[0], "1:u")), KeyOf("1:u", "r", Password(s[1], "1:u"))}, s.Keys("1:u", "r"))
}

func TestOrdered(t *testing.T) {
	servers := []Server{{Region: "us", URLs: []string{"1"}}, {Region: "eu", URLs: []string{"2"}}, {Region: "eu", URLs: []string{"3"}}, {Region: "xx", URLs: []string{"4"}}}
	urls := func(list []Server) (s string) {
		for _, x := range list {
			s += x.URLs[0]
		}
		return s
	}
	require.Equal(t, "2314", urls(Ordered(servers, []string{"eu", "us"})))
	require.Equal(t, "1234", urls(servers), "the caller's list stays")
	servers[1].Draining = true
	require.Equal(t, "314", urls(Ordered(servers, []string{"eu", "us"})))
	for i := range servers {
		servers[i].Draining = true
	}
	require.Equal(t, "2314", urls(Ordered(servers, []string{"eu", "us"})))
	require.Empty(t, Ordered(nil, nil))
}

func TestICEServersAreWhatBrowsersTake(t *testing.T) {
	s := Secrets{strings.Repeat("s", 16)}
	list := s.ICEServers([]Server{{URLs: []string{"turn:192.0.2.1:3478?transport=udp"}}}, "anna", now, time.Hour)
	b, err := json.Marshal(list)
	require.NoError(t, err)
	require.JSONEq(t, `[{"urls":["turn:192.0.2.1:3478?transport=udp"],"username":"1800003600:anna","credential":"`+list[0].Credential+`"}]`, string(b))
	_, err = s.Check(list[0].Username, list[0].Credential, now)
	require.NoError(t, err)
	require.Nil(t, s.ICEServers(nil, "anna", now, time.Hour))
}

func FuzzParse(f *testing.F) {
	f.Add("1800003600:anna")
	f.Add("0000:a:b")
	f.Fuzz(func(t *testing.T, username string) {
		user, expiry, err := Parse(username)
		if err != nil {
			return
		}
		if user == "" || expiry.Unix() < 0 || !strings.HasSuffix(username, ":"+user) {
			t.Fatalf("%q: %q %v", username, user, expiry)
		}
	})
}
