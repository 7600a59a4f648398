package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/mustermesh/muster/core/groups"
)

// PublicGroup is a group of the directory, as everybody sees it.
type PublicGroup struct {
	GroupID     string `json:"group_id" doc:"UUID"`
	Name        string `json:"name"`
	Description string `json:"description"`
	Avatar      string `json:"avatar" doc:"An https URL, or empty"`
	MemberCount int    `json:"member_count"`
	Joined      bool   `json:"joined" doc:"You are in it"`
}

func (a *api) directoryOperations() {
	const tag = "groups"

	type directoryInput struct {
		Q      string `query:"q" doc:"How a name, or a word in it, begins: at least 2 letters or digits; absent: all"`
		Limit  int    `query:"limit" default:"50" minimum:"1" maximum:"200"`
		Cursor string `query:"cursor" doc:"From the Link header of the page before"`
	}
	type directoryOutput struct {
		Link string `header:"Link" doc:"The next page, if there is one"`
		Body struct {
			Groups []PublicGroup `json:"groups" nullable:"false"`
		}
	}
	register(a, operation{id: "list-directory", method: http.MethodGet, path: "/groups/directory", tag: tag, stale: true, summary: "Public groups, by name; the answer may be some seconds old"},
		func(ctx context.Context, in *directoryInput) (*directoryOutput, error) {
			list, next, err := a.Groups.Directory(ctx, caller(ctx).User, in.Q, in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			out := &directoryOutput{Link: nextPage("/groups/directory", in.Limit, next, "q", in.Q)}
			out.Body.Groups = make([]PublicGroup, len(list))
			for i, g := range list {
				out.Body.Groups[i] = PublicGroup{g.ID.String(), g.Name, g.Description, g.Avatar, g.MemberCount, g.Joined}
			}
			return out, nil
		})

	register(a, operation{id: "join-public-group", method: http.MethodPost, path: "/groups/{group_id}/join", tag: tag, limited: true, summary: "Join a public group; again is a success"},
		func(ctx context.Context, in *groupInput) (*groupAnswer, error) {
			id, err := groupID(in.GroupID)
			if err != nil {
				return nil, err
			}
			return groupAnswerOf(a.Groups.JoinPublic(ctx, caller(ctx).User, id))
		})
}

// BannedUser is somebody whom a group does not let in.
type BannedUser struct {
	UserID   string    `json:"user_id"`
	Username string    `json:"username"`
	By       string    `json:"by,omitempty" doc:"User id; absent: their account is gone"`
	Reason   string    `json:"reason"`
	Since    time.Time `json:"since"`
}

func bannedOf(b groups.Ban) BannedUser {
	out := BannedUser{UserID: b.User.String(), Username: b.Username, Reason: b.Reason, Since: b.At.UTC()}
	if b.By != nil {
		out.By = b.By.String()
	}
	return out
}

func (a *api) banOperations() {
	const tag = "members"

	type bansInput struct {
		GroupID string `path:"group_id"`
		Limit   int    `query:"limit" default:"50" minimum:"1" maximum:"200"`
		Cursor  string `query:"cursor" doc:"From the Link header of the page before"`
	}
	type bansOutput struct {
		Link string `header:"Link" doc:"The next page, if there is one"`
		Body struct {
			Bans []BannedUser `json:"bans" nullable:"false"`
		}
	}
	register(a, operation{id: "list-bans", method: http.MethodGet, path: "/groups/{group_id}/bans", tag: tag, summary: "Whom a group does not let in, the latest first (owner, admins)"},
		func(ctx context.Context, in *bansInput) (*bansOutput, error) {
			id, err := groupID(in.GroupID)
			if err != nil {
				return nil, err
			}
			list, next, err := a.Groups.Bans(ctx, caller(ctx).User, id, in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			out := &bansOutput{Link: nextPage("/groups/"+in.GroupID+"/bans", in.Limit, next)}
			out.Body.Bans = make([]BannedUser, len(list))
			for i, b := range list {
				out.Body.Bans[i] = bannedOf(b)
			}
			return out, nil
		})

	type banInput struct {
		GroupID string `path:"group_id"`
		Body    struct {
			UserID string `json:"user_id" doc:"A member, or anybody"`
			Reason string `json:"reason,omitempty" doc:"At most 200 characters, for owner and admins"`
		}
	}
	register(a, operation{id: "ban", method: http.MethodPost, path: "/groups/{group_id}/bans", tag: tag,
		summary: "Ban somebody (owner, admins): they are out of the room when this is answered, and come in by no code; again is a success"},
		func(ctx context.Context, in *banInput) (*Success, error) {
			id, err := groupID(in.GroupID)
			if err != nil {
				return nil, err
			}
			user, err := userID(in.Body.UserID, "body.user_id")
			if err != nil {
				return nil, err
			}
			return success(a.Groups.Ban(ctx, caller(ctx).User, id, user, in.Body.Reason))
		})

	type unbanInput struct {
		GroupID string `path:"group_id"`
		UserID  string `path:"user_id"`
	}
	register(a, operation{id: "unban", method: http.MethodDelete, path: "/groups/{group_id}/bans/{user_id}", tag: tag, summary: "End a ban (owner, admins); without one it is a success"},
		func(ctx context.Context, in *unbanInput) (*Success, error) {
			id, err := groupID(in.GroupID)
			if err != nil {
				return nil, err
			}
			user, err := userID(in.UserID, "path.user_id")
			if err != nil {
				return nil, err
			}
			return success(a.Groups.Unban(ctx, caller(ctx).User, id, user))
		})
}
