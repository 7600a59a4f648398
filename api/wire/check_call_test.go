package wire

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const aCall, aUser = "00000000-0000-4000-8000-0000000000a0", "00000000-0000-4000-8000-000000000001"

func TestCheckCall(t *testing.T) {
	offer := func(change func(*CallDescription)) *CallRequest {
		d := &CallDescription{Connection: CallDescription_UP, Offer: true, N: 1, Sdp: "v=0", Media: []*CallMedia{{Mid: "0", Source: CallSource_MIC}, {Mid: "1", Source: CallSource_CAMERA}}}
		change(d)
		return &CallRequest{Body: &CallRequest_Describe{Describe: d}}
	}
	set := func(s *CallSet) *CallRequest { return &CallRequest{Body: &CallRequest_Set{Set: s}} }
	candidate := func(c *CallCandidate) *CallRequest {
		return &CallRequest{Body: &CallRequest_Candidate{Candidate: c}}
	}
	wants := func(w ...*CallWant) *CallRequest {
		return &CallRequest{Body: &CallRequest_Wants{Wants: &CallWants{Wants: w}}}
	}
	signal := func(s *CallSignal) *CallRequest { return &CallRequest{Body: &CallRequest_Signal{Signal: s}} }
	moderate := func(m *CallModerate) *CallRequest {
		return &CallRequest{Body: &CallRequest_Moderate{Moderate: m}}
	}
	for name, r := range map[string]*CallRequest{
		"join":       {Body: &CallRequest_Join{}},
		"leave":      {Body: &CallRequest_Leave{Leave: &CallLeave{}}},
		"set":        set(&CallSet{Heading: new(float32(360))}),
		"offer":      offer(func(*CallDescription) {}),
		"long offer": offer(func(d *CallDescription) { d.Sdp = strings.Repeat("a", MaxDescription) }),
		"answer":     offer(func(d *CallDescription) { d.Connection, d.Offer, d.Media = CallDescription_DOWN, false, nil }),
		"restart":    offer(func(d *CallDescription) { *d = CallDescription{Connection: CallDescription_DOWN, Restart: true} }),
		"candidate":  candidate(&CallCandidate{Connection: CallDescription_UP}),
		"wants":      wants(&CallWant{Track: "abcdefghijkl", Height: 1080}),
		"floor":      {Body: &CallRequest_Floor{Floor: &CallFloorAsk{Hold: true, Priority: 9}}},
		"mute":       moderate(&CallModerate{What: &CallModerate_Mute{Mute: &CallWho{User: aUser}}}),
		"kick":       moderate(&CallModerate{What: &CallModerate_Kick{Kick: &CallWho{User: aUser, Device: "phone"}}}),
		"take floor": moderate(&CallModerate{What: &CallModerate_TakeFloor{TakeFloor: &CallWho{User: aUser}}}),
		"unlock":     moderate(&CallModerate{What: &CallModerate_Lock{}}),
		"end":        moderate(&CallModerate{What: &CallModerate_End{End: true}}),
		"signal":     signal(&CallSignal{User: aUser, Device: "phone", Data: "{}"}),
	} {
		r.Call = aCall
		require.Nil(t, CheckCall(r), name)
	}
	for name, r := range map[string]*CallRequest{
		"nothing":             {},
		"nothing to set":      set(&CallSet{}),
		"no set":              {Body: &CallRequest_Set{}},
		"heading":             set(&CallSet{Heading: new(float32(math.NaN()))}),
		"no description":      {Body: &CallRequest_Describe{}},
		"connection":          offer(func(d *CallDescription) { d.Connection = 3 }),
		"down offered":        offer(func(d *CallDescription) { d.Connection = CallDescription_DOWN }),
		"up answered":         offer(func(d *CallDescription) { d.Offer = false }),
		"no number":           offer(func(d *CallDescription) { d.N = 0 }),
		"no sdp":              offer(func(d *CallDescription) { d.Sdp = "" }),
		"too long":            offer(func(d *CallDescription) { d.Sdp = strings.Repeat("a", MaxDescription+1) }),
		"not UTF-8":           offer(func(d *CallDescription) { d.Sdp = "\xff" }),
		"same mid":            offer(func(d *CallDescription) { d.Media[1].Mid = "0" }),
		"no mid":              offer(func(d *CallDescription) { d.Media[1].Mid = "" }),
		"no media":            offer(func(d *CallDescription) { d.Media[1] = nil }),
		"source":              offer(func(d *CallDescription) { d.Media[1].Source = 6 }),
		"many media":          offer(func(d *CallDescription) { d.Media = make([]*CallMedia, MaxCallMedia+1) }),
		"restart of up":       offer(func(d *CallDescription) { d.Restart, d.Sdp = true, "" }),
		"restart with sdp":    offer(func(d *CallDescription) { d.Restart, d.Connection = true, CallDescription_DOWN }),
		"candidate of none":   candidate(&CallCandidate{}),
		"long candidate":      candidate(&CallCandidate{Connection: CallDescription_UP, Candidate: strings.Repeat("a", MaxCandidate+1)}),
		"many wants":          wants(make([]*CallWant, MaxWants+1)...),
		"want of nothing":     wants(nil),
		"huge want":           wants(&CallWant{Track: "a", Height: MaxHeight + 1}),
		"priority":            {Body: &CallRequest_Floor{Floor: &CallFloorAsk{Priority: 10}}},
		"moderate nothing":    moderate(&CallModerate{}),
		"moderate nobody":     moderate(&CallModerate{What: &CallModerate_Mute{}}),
		"kick of a bad name":  moderate(&CallModerate{What: &CallModerate_Kick{Kick: &CallWho{User: aUser, Device: "a b"}}}),
		"signal to nobody":    signal(&CallSignal{Data: "{}"}),
		"signal to no device": signal(&CallSignal{User: aUser, Data: "{}"}),
		"empty signal":        signal(&CallSignal{User: aUser, Device: "phone"}),
	} {
		r.Call = aCall
		p := CheckCall(r)
		require.NotNil(t, p, name)
		require.Contains(t, []string{CodeBadRequest, CodeBadDevice}, p.Code, name)
	}
	require.NotNil(t, CheckCall(nil))
	require.NotNil(t, CheckCall(&CallRequest{Call: strings.ToUpper(aCall), Body: &CallRequest_Join{}}))
}
