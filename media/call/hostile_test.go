package call

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/media"
	"github.com/mustermesh/muster/regions"
)

// Where one pushes to talk, no sound passes without the floor, whatever its sender calls
// it; nor does a muted microphone that is called a camera.
func TestSoundIsSoundUnderAnyName(t *testing.T) {
	a := newAlone(t, func(r *media.Record) { r.PushToTalk = true })
	_, err := a.join("ann", 1, &wire.CallJoin{})
	require.NoError(t, err)
	k := Key{"ann", "d"}
	for source := range wire.CallSource_name {
		s := wire.CallSource(source)
		_, open := a.Open(k, media.Track{Source: s})
		require.False(t, open, s)
		_, open = a.Open(k, media.Track{Source: s, Video: true})
		require.True(t, open, s)
	}
	require.NoError(t, a.AskFloor(a.now, a.who("ann", 1).ID(), &wire.CallFloorAsk{Hold: true}))
	a.Tick(a.now)
	w := a.Take(a.now).Floor
	require.Len(t, w, 1)
	a.FloorAnswered(a.now, a.now, w[0], regions.FloorAnswer{Standing: regions.FloorYours, Lease: regions.FloorLease, Holder: w[0].Who, Grant: 1}, nil)
	until, open := a.Open(k, media.Track{Source: wire.CallSource_MUSIC})
	require.True(t, open)
	require.Equal(t, a.now.Add(regions.FloorLease), until)
	require.NoError(t, a.Set(w[0].Who, &wire.CallSet{MicMuted: new(true)}))
	for source, want := range map[wire.CallSource]bool{wire.CallSource_MIC: false, wire.CallSource_CAMERA: false, wire.CallSource_MUSIC: true, wire.CallSource_SCREEN_AUDIO: true} {
		_, open = a.Open(k, media.Track{Source: source})
		require.Equal(t, want, open, source)
	}
}

// What somebody is in the room counts when they ask, not when they joined.
func TestWhoWasAnAdmin(t *testing.T) {
	a := newAlone(t, nil)
	admin := a.who("ann", 1)
	admin.Role = "admin"
	_, err := a.Join(a.now, admin, &wire.CallJoin{}, false)
	require.NoError(t, err)
	_, err = a.join("bob", 1, &wire.CallJoin{})
	require.NoError(t, err)
	a.Stands(a.who("ann", 1))
	bob := &wire.CallWho{User: "bob"}
	require.ErrorIs(t, a.Kick(a.now, admin.ID(), bob), media.ErrForbidden)
	require.ErrorIs(t, a.Mute(a.now, admin.ID(), bob), media.ErrForbidden)
	old := admin
	old.Epoch = 0
	a.Stands(old)
	require.ErrorIs(t, a.Moderates(admin.ID()), media.ErrForbidden, "another session's standing")
	a.Stands(admin)
	require.NoError(t, a.Kick(a.now, admin.ID(), bob))
}

// Whoever was put out while their connection was gone is out at their node, too: it would
// join them again at the call's next SFU.
func TestThoseWithoutConnectionArePutOut(t *testing.T) {
	a := newAlone(t, nil)
	admin := a.who("ann", 1)
	admin.Role = "admin"
	_, err := a.Join(a.now, admin, &wire.CallJoin{}, false)
	require.NoError(t, err)
	_, err = a.join("bob", 1, &wire.CallJoin{})
	require.NoError(t, err)
	a.Suspend(a.who("bob", 1).ID())
	a.told()
	require.NoError(t, a.Kick(a.now, admin.ID(), &wire.CallWho{User: "bob"}))
	var over []string
	for _, x := range a.told() {
		if o := x.Event.GetOver(); o != nil {
			over = append(over, x.To.User+" "+o.Reason)
		}
	}
	require.Equal(t, []string{"bob kicked"}, over)
}

// People who come, talk and go leave nothing in a call that goes on.
func TestWhoLeftIsForgotten(t *testing.T) {
	a := newAlone(t, func(r *media.Record) { r.PushToTalk = true })
	_, err := a.join("ann", 1, &wire.CallJoin{})
	require.NoError(t, err)
	for n := range uint64(2000) {
		user := fmt.Sprint("user ", n)
		id := a.who(user, 1).ID()
		_, err := a.join(user, 1, &wire.CallJoin{})
		require.NoError(t, err)
		require.NoError(t, a.AskFloor(a.now, id, &wire.CallFloorAsk{Hold: true}))
		a.Tick(a.now)
		for _, w := range a.Take(a.now).Floor {
			if !w.Release {
				a.FloorAnswered(a.now, a.now, w, regions.FloorAnswer{Standing: regions.FloorYours, Lease: regions.FloorLease, Holder: id, Grant: n + 1}, nil)
			}
		}
		require.NoError(t, a.Wants(id, &wire.CallWants{Wants: []*wire.CallWant{{Track: "t", Height: 1}}}))
		a.Leave(a.now, id, []string{"left", "kicked"}[n%2])
		a.now = a.now.Add(time.Second)
		a.Tick(a.now)
		a.Take(a.now)
	}
	a.now = a.now.Add(time.Minute)
	a.Tick(a.now)
	a.Take(a.now)
	for what, n := range map[string]int{
		"locals": len(a.locals), "view": len(a.view), "ghosts": len(a.ghosts), "moved": len(a.movedAway), "changed": len(a.partChanged),
		"gone": len(a.partGone), "dirty": len(a.dirty), "sources": len(a.sources), "claims": len(a.floor.claims), "released": len(a.floor.released),
	} {
		require.LessOrEqual(t, n, 2, what)
	}
	require.LessOrEqual(t, len(a.gone), 4*a.cfg.Max+1)
}

// How one talks is told in the change, beside all of it anew to those whose gates it
// closes.
func TestPushToTalkIsTold(t *testing.T) {
	a := newAlone(t, nil)
	_, err := a.join("ann", 1, &wire.CallJoin{})
	require.NoError(t, err)
	a.told()
	r := a.Record()
	r.PushToTalk, r.Version = true, 2
	a.Changed(a.now, r)
	var told []bool
	for _, x := range a.told() {
		if c := x.Event.GetChanged(); c != nil && c.PushToTalk != nil {
			told = append(told, *c.PushToTalk)
		}
	}
	require.Equal(t, []bool{true}, told)
}
