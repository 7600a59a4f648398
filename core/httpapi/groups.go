package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core/groups"
)

// Group is a group as its members see it.
type Group struct {
	GroupID     string         `json:"group_id" doc:"UUID"`
	Name        string         `json:"name"`
	Description string         `json:"description"`
	Avatar      string         `json:"avatar" doc:"An https URL, or empty"`
	Settings    map[string]any `json:"settings" doc:"visibility (private, public), invites (members, admins) and max_members mean something to the server; all else is whatever the apps keep here"`
	Members     []Member       `json:"members" nullable:"false" doc:"The longest-standing first"`
	HomeRegion  string         `json:"home_region" doc:"Where the group was made: its messages are written there, unless all of the database is in one region"`
	CreatedAt   time.Time      `json:"created_at"`
}

// Member is somebody in a group.
type Member struct {
	UserID         string    `json:"user_id" doc:"UUID"`
	Username       string    `json:"username"`
	ProfilePicture string    `json:"profile_picture" doc:"An https URL, or empty"`
	Role           string    `json:"role" enum:"owner,admin,member"`
	JoinedAt       time.Time `json:"joined_at"`
}

// GroupSummary is a group in a list.
type GroupSummary struct {
	GroupID     string    `json:"group_id" doc:"UUID"`
	Name        string    `json:"name"`
	Avatar      string    `json:"avatar"`
	MemberCount int       `json:"member_count"`
	LastActive  time.Time `json:"last_active" doc:"The latest message, fix or change"`
}

// OpenInvite is an invite that can still be used.
type OpenInvite struct {
	InviteCode string    `json:"invite_code"`
	Link       string    `json:"link" doc:"Empty where the deployment has no page for it"`
	CreatedBy  string    `json:"created_by" doc:"User id"`
	CreatedAt  time.Time `json:"created_at"`
	ExpiresAt  time.Time `json:"expires_at"`
	MaxUses    int       `json:"max_uses" doc:"0: any number"`
	Uses       int       `json:"uses"`
}

func groupOf(g groups.Group) Group {
	return Group{
		GroupID: g.ID.String(), Name: g.Name, Description: g.Description, Avatar: g.Avatar,
		Settings: g.Settings, Members: membersOf(g.Members), HomeRegion: g.Home, CreatedAt: g.CreatedAt.UTC(),
	}
}

func memberOf(m groups.Member) Member {
	return Member{UserID: m.User.String(), Username: m.Username, ProfilePicture: m.Picture, Role: string(m.Role), JoinedAt: m.JoinedAt.UTC()}
}

func membersOf(list []groups.Member) []Member {
	out := make([]Member, len(list))
	for i, m := range list {
		out[i] = memberOf(m)
	}
	return out
}

// NewGroup answers the making of a group.
type NewGroup struct {
	GroupID    string `json:"group_id" doc:"UUID"`
	InviteCode string `json:"invite_code" doc:"Expires like every invite"`
}

// groupAnswer is {success, group}.
type groupAnswer struct {
	Body struct {
		Success bool  `json:"success"`
		Group   Group `json:"group"`
	}
}

func groupAnswerOf(g groups.Group, err error) (*groupAnswer, error) {
	if err != nil {
		return nil, err
	}
	out := &groupAnswer{}
	out.Body.Success, out.Body.Group = true, groupOf(g)
	return out, nil
}

type groupInput struct {
	GroupID string `path:"group_id"`
}

// GroupChange names what is to be replaced.
type GroupChange struct {
	Name        *string        `json:"name,omitempty" doc:"1 to 80 characters; absent: unchanged"`
	Description *string        `json:"description,omitempty" doc:"At most 2,000 characters; absent: unchanged"`
	Avatar      *string        `json:"avatar,omitempty" doc:"An https URL, or empty; absent: unchanged"`
	Settings    map[string]any `json:"settings,omitempty" doc:"Replaced as a whole, at most 8 KiB; absent: unchanged"`
}

func (a *api) groupOperations() {
	const tag = "groups"

	type groupsInput struct {
		Limit  int    `query:"limit" default:"200" minimum:"1" maximum:"500"`
		Cursor string `query:"cursor" doc:"From the Link header of the page before"`
	}
	type groupsOutput struct {
		Link string `header:"Link" doc:"The next page, if there is one"`
		Body struct {
			Groups []GroupSummary `json:"groups" nullable:"false"`
		}
	}
	register(a, operation{id: "list-groups", method: http.MethodGet, path: "/groups", tag: tag, summary: "List user's groups"},
		func(ctx context.Context, in *groupsInput) (*groupsOutput, error) {
			list, next, err := a.Groups.List(ctx, caller(ctx).User, in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			out := &groupsOutput{Link: nextPage("/groups", in.Limit, next)}
			out.Body.Groups = make([]GroupSummary, len(list))
			for i, g := range list {
				out.Body.Groups[i] = GroupSummary{GroupID: g.ID.String(), Name: g.Name, Avatar: g.Avatar, MemberCount: g.MemberCount, LastActive: g.LastActive.UTC()}
			}
			return out, nil
		})

	type newGroupInput struct {
		Body struct {
			Name        string         `json:"name" doc:"1 to 80 characters"`
			Description string         `json:"description,omitempty" doc:"At most 2,000 characters"`
			Avatar      string         `json:"avatar,omitempty" doc:"An https URL, or empty"`
			Settings    map[string]any `json:"settings,omitempty" doc:"At most 8 KiB; with visibility public the group is in the directory, and everybody may join"`
		}
	}
	type newGroupOutput struct {
		Body NewGroup
	}
	register(a, operation{id: "create-group", method: http.MethodPost, path: "/groups", tag: tag, summary: "Create new group", status: http.StatusCreated},
		func(ctx context.Context, in *newGroupInput) (*newGroupOutput, error) {
			b := in.Body
			answer, err := inTx(ctx, a, func(ctx context.Context, tx pgx.Tx) (NewGroup, error) {
				id, invite, err := a.Groups.Create(ctx, tx, caller(ctx).User,
					groups.Draft{Name: b.Name, Description: b.Description, Avatar: b.Avatar, Settings: b.Settings})
				return NewGroup{GroupID: id.String(), InviteCode: invite.Code}, err
			})
			if err != nil {
				return nil, err
			}
			return &newGroupOutput{Body: answer}, nil
		})

	type groupOutput struct{ Body Group }
	register(a, operation{id: "get-group", method: http.MethodGet, path: "/groups/{group_id}", tag: tag, summary: "A group with its members"},
		func(ctx context.Context, in *groupInput) (*groupOutput, error) {
			id, err := groupID(in.GroupID)
			if err != nil {
				return nil, err
			}
			g, err := a.Groups.Get(ctx, caller(ctx).User, id)
			if err != nil {
				return nil, err
			}
			return &groupOutput{groupOf(g)}, nil
		})

	type groupChange struct {
		GroupID string `path:"group_id"`
		Body    GroupChange
	}
	register(a, operation{id: "put-group", method: http.MethodPut, path: "/groups/{group_id}", tag: tag, summary: "Change a group (owner, admins)"},
		func(ctx context.Context, in *groupChange) (*groupAnswer, error) {
			id, err := groupID(in.GroupID)
			if err != nil {
				return nil, err
			}
			return groupAnswerOf(a.Groups.Update(ctx, caller(ctx).User, id, groups.Change(in.Body)))
		})

	register(a, operation{id: "delete-group", method: http.MethodDelete, path: "/groups/{group_id}", tag: tag, summary: "Delete a group and its messages (owner)"},
		func(ctx context.Context, in *groupInput) (*Success, error) {
			id, err := groupID(in.GroupID)
			if err != nil {
				return nil, err
			}
			return success(a.Groups.Delete(ctx, caller(ctx).User, id))
		})

	register(a, operation{id: "leave-group", method: http.MethodPost, path: "/groups/{group_id}/leave", tag: tag, summary: "Leave a group; its owner only when alone, and the group is gone then"},
		func(ctx context.Context, in *groupInput) (*Success, error) {
			id, err := groupID(in.GroupID)
			if err != nil {
				return nil, err
			}
			return success(a.Groups.Leave(ctx, caller(ctx).User, id))
		})

	type transferInput struct {
		GroupID string `path:"group_id"`
		Body    struct {
			UserID string `json:"user_id" doc:"A member"`
		}
	}
	register(a, operation{id: "transfer-group", method: http.MethodPost, path: "/groups/{group_id}/transfer", tag: tag, summary: "Make another member the owner (owner)"},
		func(ctx context.Context, in *transferInput) (*groupAnswer, error) {
			id, err := groupID(in.GroupID)
			if err != nil {
				return nil, err
			}
			to, err := userID(in.Body.UserID, "body.user_id")
			if err != nil {
				return nil, err
			}
			return groupAnswerOf(a.Groups.Transfer(ctx, caller(ctx).User, id, to))
		})

	a.memberOperations()
	a.inviteOperations()
	a.banOperations()
	a.directoryOperations()
}

// nextPage names the page after a cursor (RFC 8288); empty if there is none. kept
// are names and values of what else the page was asked with.
func nextPage(path string, limit int, cursor string, kept ...string) string {
	if cursor == "" {
		return ""
	}
	query := ""
	for i := 0; i+1 < len(kept); i += 2 {
		if kept[i+1] != "" {
			query += "&" + kept[i] + "=" + url.QueryEscape(kept[i+1])
		}
	}
	return fmt.Sprintf(`<%s%s?limit=%d&cursor=%s%s>; rel="next"`, prefix, path, limit, url.QueryEscape(cursor), query)
}
