package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core/groups"
)

// ListedMember is a member with what people gave them.
type ListedMember struct {
	Member
	Rating Rating `json:"rating"`
}

func (a *api) memberOperations() {
	const tag = "members"

	type membersInput struct {
		GroupID string `path:"group_id"`
		Limit   int    `query:"limit" default:"200" minimum:"1" maximum:"500"`
		Cursor  string `query:"cursor" doc:"From the Link header of the page before"`
	}
	type membersOutput struct {
		Link string `header:"Link" doc:"The next page, if there is one"`
		Body struct {
			Members []ListedMember `json:"members" nullable:"false"`
		}
	}
	register(a, operation{id: "list-members", method: http.MethodGet, path: "/groups/{group_id}/members", tag: tag, summary: "List a group's members"},
		func(ctx context.Context, in *membersInput) (*membersOutput, error) {
			id, err := groupID(in.GroupID)
			if err != nil {
				return nil, err
			}
			list, next, err := a.Groups.Members(ctx, caller(ctx).User, id, in.Cursor, in.Limit)
			if err != nil {
				return nil, err
			}
			out := &membersOutput{Link: nextPage("/groups/"+in.GroupID+"/members", in.Limit, next)}
			out.Body.Members = make([]ListedMember, len(list))
			for i, m := range list {
				out.Body.Members[i] = ListedMember{memberOf(m), ratingOf(m.Rating)}
			}
			return out, nil
		})

	type memberInput struct {
		GroupID string `path:"group_id"`
		UserID  string `path:"user_id"`
	}
	register(a, operation{id: "remove-member", method: http.MethodDelete, path: "/groups/{group_id}/members/{user_id}", tag: tag,
		summary: "Remove a member (owner, admins); they are out of the room when this is answered"},
		func(ctx context.Context, in *memberInput) (*Success, error) {
			id, err := groupID(in.GroupID)
			if err != nil {
				return nil, err
			}
			user, err := userID(in.UserID, "path.user_id")
			if err != nil {
				return nil, err
			}
			return success(a.Groups.Kick(ctx, caller(ctx).User, id, user))
		})

	type roleInput struct {
		GroupID string `path:"group_id"`
		UserID  string `path:"user_id"`
		Body    struct {
			Role string `json:"role" doc:"admin or member"`
		}
	}
	type roleOutput struct {
		Body struct {
			Success bool   `json:"success"`
			Member  Member `json:"member"`
		}
	}
	register(a, operation{id: "put-member", method: http.MethodPut, path: "/groups/{group_id}/members/{user_id}", tag: tag, summary: "Change a member's role (owner)"},
		func(ctx context.Context, in *roleInput) (*roleOutput, error) {
			id, err := groupID(in.GroupID)
			if err != nil {
				return nil, err
			}
			user, err := userID(in.UserID, "path.user_id")
			if err != nil {
				return nil, err
			}
			m, err := a.Groups.SetRole(ctx, caller(ctx).User, id, user, groups.Role(in.Body.Role))
			if err != nil {
				return nil, err
			}
			out := &roleOutput{}
			out.Body.Success, out.Body.Member = true, memberOf(m)
			return out, nil
		})
}

// NewInvite answers the making of an invite.
type NewInvite struct {
	InviteCode string    `json:"invite_code"`
	ExpiresAt  time.Time `json:"expires_at"`
}

func (a *api) inviteOperations() {
	const tag = "invites"

	type inviteInput struct {
		GroupID string `path:"group_id"`
		Body    *struct {
			ExpiresIn int64 `json:"expires_in,omitempty" minimum:"0" maximum:"31622400" doc:"Seconds; absent: 7 days"`
			MaxUses   int   `json:"max_uses,omitempty" minimum:"0" maximum:"10000" doc:"Absent: any number"`
		}
	}
	type inviteOutput struct {
		Body NewInvite
	}
	register(a, operation{id: "create-invite", method: http.MethodPost, path: "/groups/{group_id}/invite", tag: tag, summary: "Generate group invite", status: http.StatusCreated},
		func(ctx context.Context, in *inviteInput) (*inviteOutput, error) {
			id, err := groupID(in.GroupID)
			if err != nil {
				return nil, err
			}
			var terms groups.Terms
			if in.Body != nil {
				terms = groups.Terms{Life: time.Duration(in.Body.ExpiresIn) * time.Second, MaxUses: in.Body.MaxUses}
			}
			answer, err := inTx(ctx, a, func(ctx context.Context, tx pgx.Tx) (NewInvite, error) {
				i, err := a.Groups.Invite(ctx, tx, caller(ctx).User, id, terms)
				return NewInvite{InviteCode: i.Code, ExpiresAt: i.ExpiresAt}, err
			})
			if err != nil {
				return nil, err
			}
			return &inviteOutput{Body: answer}, nil
		})

	type joinInput struct {
		Body struct {
			InviteCode string `json:"invite_code" doc:"A code, or an invite link"`
		}
	}
	register(a, operation{id: "join-group", refuses: []int{http.StatusGone}, method: http.MethodPost, path: "/groups/join", tag: tag, summary: "Join group with invite code; again is a success", limited: true},
		func(ctx context.Context, in *joinInput) (*groupAnswer, error) {
			return groupAnswerOf(a.Groups.Join(ctx, caller(ctx).User, in.Body.InviteCode))
		})

	type invitesOutput struct {
		Body struct {
			Invites []OpenInvite `json:"invites" nullable:"false"`
		}
	}
	register(a, operation{id: "list-invites", method: http.MethodGet, path: "/groups/{group_id}/invites", tag: tag, summary: "List open invites: a member their own, owner and admins all"},
		func(ctx context.Context, in *groupInput) (*invitesOutput, error) {
			id, err := groupID(in.GroupID)
			if err != nil {
				return nil, err
			}
			list, err := a.Groups.Invites(ctx, caller(ctx).User, id)
			if err != nil {
				return nil, err
			}
			out := &invitesOutput{}
			out.Body.Invites = make([]OpenInvite, len(list))
			for n, i := range list {
				out.Body.Invites[n] = OpenInvite{
					InviteCode: i.Code, Link: i.Link, CreatedBy: i.CreatedBy.String(),
					CreatedAt: i.CreatedAt.UTC(), ExpiresAt: i.ExpiresAt.UTC(), MaxUses: i.MaxUses, Uses: i.Uses,
				}
			}
			return out, nil
		})

	type revokeInput struct {
		GroupID    string `path:"group_id"`
		InviteCode string `path:"invite_code"`
	}
	register(a, operation{id: "revoke-invite", method: http.MethodDelete, path: "/groups/{group_id}/invites/{invite_code}", tag: tag, summary: "Withdraw an invite (its maker, owner, admins)"},
		func(ctx context.Context, in *revokeInput) (*Success, error) {
			id, err := groupID(in.GroupID)
			if err != nil {
				return nil, err
			}
			return success(a.Groups.Revoke(ctx, caller(ctx).User, id, in.InviteCode))
		})
}
