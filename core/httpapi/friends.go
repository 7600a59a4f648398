package httpapi

import (
	"context"
	"net/http"
	"time"
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
		summary: "Block somebody: neither finds the other's position any more, and what you granted each other ends. They are not told; again is a success"},
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
	register(a, operation{id: "unblock", method: http.MethodDelete, path: "/blocks/{user_id}", tag: tag, spreads: true, summary: "End your block of somebody; grants that ended by it stay ended"},
		func(ctx context.Context, in *unblockInput) (*Success, error) {
			other, err := userID(in.UserID, "path.user_id")
			if err != nil {
				return nil, err
			}
			return success(store.Unblock(ctx, caller(ctx).User, other))
		})
}
