package meshtest

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/client"
)

// Many are removed while many speak, from every node. Nothing that is said
// after a removal was acknowledged reaches the removed one; and whoever is
// invited again is back as if nothing had been.
func TestRemovalsInACrowd(t *testing.T) {
	const victims, speakers = 9, 4
	m := Start(t, 2, 3)
	owner := m.Guest(0, "Owner").Connect(0, 0, client.Auto)
	var out, speaking []*User
	for i := range victims {
		out = append(out, m.Guest(0, fmt.Sprintf("Victim %d", i)).Connect(0, i%3, client.Auto))
	}
	for i := range speakers {
		speaking = append(speaking, m.Guest(i%2, fmt.Sprintf("Speaker %d", i)).Connect(i%2, i%3, client.Auto))
	}
	group := m.Group(owner, append(out[:victims:victims], speaking...)...)
	atOwner := owner.Join(group)
	heard := make([]func() []client.Message, victims)
	rooms := make([]*client.Room, victims)
	for i, u := range out {
		rooms[i] = u.Join(group)
		heard[i] = rooms[i].Messages
	}

	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	for _, u := range speaking {
		r := u.Join(group)
		wg.Go(func() {
			for ctx.Err() == nil {
				// The body is when it was said.
				if _, err := r.Send(t.Context(), strconv.FormatInt(time.Now().UnixNano(), 10)); err != nil {
					t.Errorf("send: %v", err)
					return
				}
			}
		})
	}
	removed := make([]int64, victims)
	var kicks sync.WaitGroup
	for i, u := range out {
		kicks.Go(func() {
			if err := owner.Kick(t.Context(), group, u.ID); err != nil {
				t.Errorf("kick: %v", err)
			}
			removed[i] = time.Now().UnixNano()
		})
		<-time.After(40 * time.Millisecond)
	}
	kicks.Wait()
	<-time.After(300 * time.Millisecond) // more is said
	stop()
	wg.Wait()
	for i, r := range rooms {
		m.Eventually("the removed are told", func() bool { return client.IsCode(r.Err(), wire.CodeNotMember) })
		for _, msg := range heard[i]() {
			said, err := strconv.ParseInt(msg.Body, 10, 64)
			require.NoError(t, err)
			require.Less(t, said, removed[i], "victim %d heard what was said after it was out", i)
		}
	}
	m.Eventually("only the others are left", func() bool { return len(atOwner.Members()) == 1+speakers })

	owner.admit(group, out...)
	for i, u := range out {
		rooms[i] = u.Join(group)
	}
	_, err := rooms[0].Send(t.Context(), "back")
	require.NoError(t, err)
	for i, r := range rooms {
		m.Eventually("back, and listening", func() bool {
			ms := r.Messages()
			return len(r.Members()) == 1+speakers+victims && len(ms) > 0 && ms[len(ms)-1].Body == "back"
		})
		require.NoError(t, r.Err(), "victim %d", i)
		require.Zero(t, r.Counters().Gaps)
	}
}
