package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/bench/fleet"
	"github.com/mustermesh/muster/client"
)

// Of three real processes, one is killed as soon as it has answered that a group
// was changed: the change is committed, and its relay has hardly begun. Whoever is
// in the room hears of every change, in order. `make prove-outbox` kills 200.
func TestChangesAreHeardThoughTheirNodeIsKilled(t *testing.T) {
	kills := 3
	if s := os.Getenv("MUSTER_PROVE_KILLS"); s != "" {
		var err error
		kills, err = strconv.Atoi(s)
		require.NoError(t, err)
	} else {
		t.Parallel()
	}
	c := testFleet()
	require.NoError(t, c.with(t.Context(), fleet.Config{Nodes: 3}, func(f *fleet.Fleet) error {
		if err := f.Start(t.Context()); err != nil {
			return err
		}
		killAndListen(t, f, kills)
		return nil
	}))
}

func killAndListen(t *testing.T, f *fleet.Fleet, kills int) {
	ctx := t.Context()
	pool := f.Client()
	defer pool.CloseIdleConnections()
	api := client.NewAPI(f.API(), client.APIConfig{HTTP: pool})
	_, err := api.Guest(ctx, "Ana", "test")
	require.NoError(t, err)
	group, err := api.CreateGroup(ctx, client.GroupDraft{Name: "0"})
	require.NoError(t, err)

	// The room's owner lives, and the session is there: what a client misses while
	// it moves is another test's.
	roster, err := f.Nodes[0].Roster(ctx)
	require.NoError(t, err)
	owner := slices.IndexFunc(f.Nodes, func(p *fleet.Process) bool {
		return string(p.ID) == fleet.OwnerOf(roster, client.GroupRoom(group.GroupID))
	})
	require.GreaterOrEqual(t, owner, 0)
	session, err := client.Connect(ctx, client.Config{Endpoints: f.Endpoints(owner), StayPut: true, Tokens: api, HTTP: pool})
	require.NoError(t, err)
	defer session.Close()
	room, err := session.Join(ctx, client.GroupRoom(group.GroupID))
	require.NoError(t, err)
	reading, stop := context.WithCancel(ctx)
	var reader sync.WaitGroup
	defer reader.Wait()
	defer stop()
	var mu sync.Mutex
	var heard []uint64
	var missed int
	events := room.Events(reading)
	reader.Go(func() {
		for e := range events {
			mu.Lock()
			switch e := e.(type) {
			case client.Updated:
				heard = append(heard, e.Update.N)
				if e.Missed {
					missed++
				}
			case client.Missed:
				missed++
			}
			mu.Unlock()
		}
	})

	began := time.Now()
	late := 0 // the relay of another process told it
	for n := range kills {
		victim := f.Nodes[(owner+1+n%2)%3]
		change(t, api, victim, group.GroupID, n)
		mu.Lock()
		before := len(heard)
		mu.Unlock()
		require.NoError(t, victim.Kill(ctx))
		if before < n+1 {
			late++
		}
		require.NoError(t, victim.Start())
		require.NoError(t, victim.Ready(ctx))
	}
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(heard) >= kills
	}, time.Minute, 10*time.Millisecond)
	mu.Lock()
	defer mu.Unlock()
	require.Zero(t, missed)
	require.Len(t, heard, kills)
	for i, n := range heard {
		require.Equal(t, heard[0]+uint64(i), n, "the order: %v", heard)
	}
	t.Logf("%d nodes killed in %.0f s, %d of them before the room had heard: every change was heard, in order", kills, time.Since(began).Seconds(), late)
}

// change changes the group's name through one node.
func change(t *testing.T, api *client.API, at *fleet.Process, group string, n int) {
	t.Helper()
	token, err := api.Token(t.Context(), "")
	require.NoError(t, err)
	body, err := json.Marshal(map[string]string{"name": fmt.Sprintf("after %d", n)})
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, at.HTTP+"/api/v1/groups/"+group, bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
}
