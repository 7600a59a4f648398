package ice

import (
	"net/netip"
	"testing"

	"github.com/pion/stun/v3"
	"github.com/stretchr/testify/require"
)

var from = netip.MustParseAddrPort("192.0.2.7:4711")

func request(t testing.TB, c Credentials, more ...stun.Setter) []byte {
	set := append([]stun.Setter{stun.TransactionID, stun.BindingRequest, stun.NewUsername(c.Ufrag + ":them")}, more...)
	m, err := stun.Build(append(set, stun.NewShortTermIntegrity(c.Pwd), stun.Fingerprint)...)
	require.NoError(t, err)
	return m.Raw
}

func TestAnswersWhoKnowsThePassword(t *testing.T) {
	c := New()
	require.True(t, c.Valid())
	b := request(t, c)
	require.True(t, Is(b))
	r, err := Parse(b)
	require.NoError(t, err)
	require.Equal(t, c.Ufrag, r.Local())
	require.Equal(t, "them", r.Remote())
	answer, nominated, err := r.Answer(c, from)
	require.NoError(t, err)
	require.False(t, nominated)
	var m stun.Message
	require.NoError(t, stun.Decode(answer, &m))
	require.NoError(t, stun.NewShortTermIntegrity(c.Pwd).Check(&m))
	require.NoError(t, stun.Fingerprint.Check(&m))
	var a stun.XORMappedAddress
	require.NoError(t, a.GetFrom(&m))
	require.Equal(t, from.Port(), uint16(a.Port))
	require.Equal(t, "192.0.2.7", a.IP.String())
	require.LessOrEqual(t, len(answer), len(b), "no answer is longer than what it answers")

	r, err = Parse(request(t, c, stun.RawAttribute{Type: stun.AttrUseCandidate}))
	require.NoError(t, err)
	_, nominated, err = r.Answer(c, from)
	require.NoError(t, err)
	require.True(t, nominated)
}

func TestAnswersNobodyElse(t *testing.T) {
	c, other := New(), New()
	for name, b := range map[string][]byte{
		"another's password": request(t, Credentials{c.Ufrag, other.Pwd}),
		"another's name":     request(t, Credentials{other.Ufrag, c.Pwd}),
	} {
		r, err := Parse(b)
		require.NoError(t, err, name)
		answer, _, err := r.Answer(c, from)
		require.ErrorIs(t, err, ErrCredentials, name)
		require.Nil(t, answer, name)
	}
	m, err := stun.Build(stun.TransactionID, stun.BindingSuccess)
	require.NoError(t, err)
	_, err = Parse(m.Raw)
	require.ErrorIs(t, err, ErrNotRequest)
}

func TestBothControlled(t *testing.T) {
	c := New()
	r, err := Parse(request(t, c, stun.RawAttribute{Type: stun.AttrICEControlled, Value: make([]byte, 8)}))
	require.NoError(t, err)
	answer, _, err := r.Answer(c, from)
	require.NoError(t, err)
	var m stun.Message
	require.NoError(t, stun.Decode(answer, &m))
	var code stun.ErrorCodeAttribute
	require.NoError(t, code.GetFrom(&m))
	require.Equal(t, stun.CodeRoleConflict, code.Code)
}

func FuzzParse(f *testing.F) {
	c := New()
	f.Add(request(f, c))
	f.Add(request(f, c, stun.RawAttribute{Type: stun.AttrUseCandidate}))
	f.Add([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if !Is(b) {
			return
		}
		r, err := Parse(b)
		if err != nil {
			return
		}
		if _, _, err := r.Answer(Credentials{r.Local(), "not the password at all"}, from); err == nil {
			t.Skip("the fuzzer found the password")
		}
	})
}
