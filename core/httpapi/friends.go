package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/auth"
	"github.com/mustermesh/muster/core/friends"
)

// BlockedUser is somebody whom the signed-in user blocked.
type BlockedUser struct {
	UserID   string    `json:"user_id"`
	Username string    `json:"username"`
	Since    time.Time `json:"since"`
}

func (a *api) blockOperations() {
	const tag = "blocks"
	store := a.Location.Blocks

	type blocksInput struct {
		Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"200"`
		Cursor string `query:"cursor" doc:"From the Link header of the page before"`
	}
	type blocksOutput struct {
		Link string `header:"Link" doc:"The next page, if there is one"`
		Body struct {
			Blocks []BlockedUser `json:"blocks" nullable:"false"`
		}
	}
	register(a, operation{id: "list-blocks", method: http.MethodGet, path: "/blocks", tag: tag, summary: "Whom you blocked, the latest first"},
		func(ctx context.Context, in *blocksInput) (*blocksOutput, error) {
			list, next, err := store.List(ctx, caller(ctx).User, in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			out := &blocksOutput{Link: nextPage("/blocks", in.Limit, next)}
			out.Body.Blocks = make([]BlockedUser, len(list))
			for i, b := range list {
				out.Body.Blocks[i] = BlockedUser{b.User.String(), b.Username, b.At.UTC()}
			}
			return out, nil
		})

	type blockInput struct {
		Body struct {
			UserID string `json:"user_id"`
		}
	}
	register(a, operation{id: "block", method: http.MethodPost, path: "/blocks", tag: tag, spreads: true,
		summary: "Block somebody: from now on neither finds the other, sees when or where they are, or can ask them anything, and what was between you ends. They are not told; again is a success"},
		func(ctx context.Context, in *blockInput) (*Success, error) {
			other, err := userID(in.Body.UserID, "body.user_id")
			if err != nil {
				return nil, err
			}
			return success(store.Block(ctx, caller(ctx).User, other))
		})

	type unblockInput struct {
		UserID string `path:"user_id"`
	}
	register(a, operation{id: "unblock", method: http.MethodDelete, path: "/blocks/{user_id}", tag: tag, spreads: true, summary: "End your block of somebody; what ended by it stays ended"},
		func(ctx context.Context, in *unblockInput) (*Success, error) {
			other, err := userID(in.UserID, "path.user_id")
			if err != nil {
				return nil, err
			}
			return success(store.Unblock(ctx, caller(ctx).User, other))
		})

	a.friendOperations()
}

// Friend is somebody in a list of friends.
type Friend struct {
	UserID         string    `json:"user_id"`
	Username       string    `json:"username"`
	ProfilePicture string    `json:"profile_picture" doc:"An https URL, or empty"`
	Rating         Rating    `json:"rating"`
	Since          time.Time `json:"since"`
}

// FriendRequest is an open request to be friends.
type FriendRequest struct {
	UserID         string    `json:"user_id" doc:"Who asked, or was asked"`
	Username       string    `json:"username"`
	ProfilePicture string    `json:"profile_picture" doc:"An https URL, or empty"`
	Rating         Rating    `json:"rating"`
	CreatedAt      time.Time `json:"created_at"`
}

// Found is somebody who was found by name.
type Found struct {
	UserID         string `json:"user_id"`
	Username       string `json:"username"`
	ProfilePicture string `json:"profile_picture" doc:"An https URL, or empty"`
	Relation       string `json:"relation" enum:"none,sent,received,friends" doc:"How they stand to you: sent and received are open requests"`
}

// Discoverable is what a user chose about who finds them.
type Discoverable struct {
	Discoverable bool   `json:"discoverable" doc:"Found by name, by everybody whom you don't block"`
	Requests     string `json:"requests" enum:"everyone,groups,nobody" doc:"Who may ask you to be friends: who knows your id, those who share a group with you, nobody"`
}

func (a *api) friendOperations() {
	const tag = "friends"
	store := a.Location.Blocks
	// How many pages of people a user finds: enough for somebody who types, too
	// little to copy the list.
	searches := newLimit("searches", auth.Limit{Burst: 60, Every: 5 * time.Second}, a.Now)

	type pageInput struct {
		Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"200"`
		Cursor string `query:"cursor" doc:"From the Link header of the page before"`
	}
	type friendsOutput struct {
		Link string `header:"Link" doc:"The next page, if there is one"`
		Body struct {
			Friends []Friend `json:"friends" nullable:"false"`
		}
	}
	register(a, operation{id: "list-friends", method: http.MethodGet, path: "/friends", tag: tag, summary: "Your friends, the latest first"},
		func(ctx context.Context, in *pageInput) (*friendsOutput, error) {
			list, next, err := store.Friends(ctx, caller(ctx).User, in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			out := &friendsOutput{Link: nextPage("/friends", in.Limit, next)}
			out.Body.Friends = make([]Friend, len(list))
			for i, p := range list {
				out.Body.Friends[i] = Friend{p.User.String(), p.Username, p.Picture, ratingOf(p.Rating), p.Since.UTC()}
			}
			return out, nil
		})

	type requestsInput struct {
		Direction string `query:"direction" default:"received" enum:"received,sent"`
		Limit     int    `query:"limit" default:"50" minimum:"1" maximum:"200"`
		Cursor    string `query:"cursor" doc:"From the Link header of the page before"`
	}
	type requestsOutput struct {
		Link string `header:"Link" doc:"The next page, if there is one"`
		Body struct {
			Requests []FriendRequest `json:"requests" nullable:"false"`
		}
	}
	register(a, operation{id: "list-friend-requests", method: http.MethodGet, path: "/friends/requests", tag: tag, summary: "Open requests to be friends, the latest first: those that you got, or that you sent"},
		func(ctx context.Context, in *requestsInput) (*requestsOutput, error) {
			list, next, err := store.Requests(ctx, caller(ctx).User, in.Direction == "sent", in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			out := &requestsOutput{Link: nextPage("/friends/requests", in.Limit, next, "direction", in.Direction)}
			out.Body.Requests = make([]FriendRequest, len(list))
			for i, p := range list {
				out.Body.Requests[i] = FriendRequest{p.User.String(), p.Username, p.Picture, ratingOf(p.Rating), p.Since.UTC()}
			}
			return out, nil
		})

	type requestInput struct {
		Body struct {
			UserID string `json:"user_id"`
		}
	}
	type requestOutput struct {
		Body struct {
			Success  bool   `json:"success"`
			Relation string `json:"relation" enum:"sent,friends" doc:"friends, if they had asked you: then this accepts"`
		}
	}
	register(a, operation{id: "request-friend", method: http.MethodPost, path: "/friends/requests", tag: tag, spreads: true,
		summary: "Ask somebody to be friends; again is a success. Who declined can't be asked for a week, and who takes no requests from you is not there"},
		func(ctx context.Context, in *requestInput) (*requestOutput, error) {
			other, err := userID(in.Body.UserID, "body.user_id")
			if err != nil {
				return nil, err
			}
			r, err := store.Request(ctx, caller(ctx).User, other)
			if err != nil {
				return nil, err
			}
			out := &requestOutput{}
			out.Body.Success, out.Body.Relation = true, string(r)
			return out, nil
		})

	type personInput struct {
		UserID string `path:"user_id"`
	}
	for _, o := range []struct {
		operation
		do func(ctx context.Context, user, other core.UserID) error
	}{
		{operation{id: "accept-friend", method: http.MethodPost, path: "/friends/requests/{user_id}/accept", summary: "Accept somebody's request to be friends"}, store.Accept},
		{operation{id: "decline-friend", method: http.MethodPost, path: "/friends/requests/{user_id}/decline", summary: "Decline somebody's request; they can't repeat it for a week"}, store.Decline},
		{operation{id: "cancel-friend", method: http.MethodDelete, path: "/friends/requests/{user_id}", summary: "Take your own request back; without one it is a success"}, store.Cancel},
		{operation{id: "unfriend", method: http.MethodDelete, path: "/friends/{user_id}", summary: "End a friendship; they are not notified. Without one it is a success"}, store.Unfriend},
	} {
		o.tag, o.spreads = tag, true
		register(a, o.operation, func(ctx context.Context, in *personInput) (*Success, error) {
			other, err := userID(in.UserID, "path.user_id")
			if err != nil {
				return nil, err
			}
			return success(o.do(ctx, caller(ctx).User, other))
		})
	}

	type discoverableOutput struct{ Body Discoverable }
	discoverable := func(s friends.Settings, err error) (*discoverableOutput, error) {
		if err != nil {
			return nil, err
		}
		return &discoverableOutput{Discoverable{s.Discoverable, string(s.Requests)}}, nil
	}
	register(a, operation{id: "get-discoverable", method: http.MethodGet, path: "/users/discoverable", tag: tag, summary: "Whether you are found by name, and who may ask you to be friends"},
		func(ctx context.Context, _ *struct{}) (*discoverableOutput, error) {
			return discoverable(store.Settings(ctx, caller(ctx).User))
		})
	type discoverableInput struct {
		Body struct {
			Discoverable bool   `json:"discoverable"`
			Requests     string `json:"requests,omitempty" enum:"everyone,groups,nobody" doc:"Absent: unchanged"`
		}
	}
	register(a, operation{id: "put-discoverable", method: http.MethodPut, path: "/users/discoverable", tag: tag, summary: "Change that. Nobody is found by name who did not choose it"},
		func(ctx context.Context, in *discoverableInput) (*discoverableOutput, error) {
			return discoverable(store.SetSettings(ctx, caller(ctx).User, in.Body.Discoverable, friends.Audience(in.Body.Requests)))
		})

	type searchInput struct {
		Q      string `query:"q" required:"true" doc:"How a name, or a word in it, begins: at least 2 letters or digits; case does not matter"`
		Limit  int    `query:"limit" default:"20" minimum:"1" maximum:"50"`
		Cursor string `query:"cursor" doc:"From the Link header of the page before"`
	}
	type searchOutput struct {
		Link string `header:"Link" doc:"The next page, if there is one"`
		Body struct {
			People []Found `json:"people" nullable:"false"`
		}
	}
	register(a, operation{id: "search-people", method: http.MethodGet, path: "/users/search", tag: tag, summary: "Find people by name: those who chose to be found"},
		func(ctx context.Context, in *searchInput) (*searchOutput, error) {
			me := caller(ctx).User
			if err := searches.take(ctx, me.String()); err != nil {
				return nil, err
			}
			list, next, err := store.Search(ctx, me, in.Q, in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			out := &searchOutput{Link: nextPage("/users/search", in.Limit, next, "q", in.Q)}
			out.Body.People = make([]Found, len(list))
			for i, p := range list {
				out.Body.People[i] = Found{p.User.String(), p.Username, p.Picture, string(p.Relation)}
			}
			return out, nil
		})
}
