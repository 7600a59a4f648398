package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/mustermesh/muster/api/wire"
)

// Profile is the signed-in user.
type Profile struct {
	UserID             string         `json:"user_id"`
	Username           string         `json:"username"`
	Email              string         `json:"email"`
	ProfilePicture     string         `json:"profile_picture"`
	Settings           map[string]any `json:"settings"`
	SubscriptionStatus string         `json:"subscription_status"`
}

// GroupSummary is a group in the list of one's groups.
type GroupSummary struct {
	GroupID     string    `json:"group_id"`
	Name        string    `json:"name"`
	Avatar      string    `json:"avatar"`
	MemberCount int       `json:"member_count"`
	LastActive  time.Time `json:"last_active"`
}

// Group is a group with its members.
type Group struct {
	GroupID     string         `json:"group_id"`
	Name        string         `json:"name"`
	Description string         `json:"description"`
	Avatar      string         `json:"avatar"`
	Settings    map[string]any `json:"settings"`
	Members     []GroupMember  `json:"members"`
	HomeRegion  string         `json:"home_region"` // where it was made
	CreatedAt   time.Time      `json:"created_at"`
}

// Room returns the id of the group's room.
func (g Group) Room() string { return GroupRoom(g.GroupID) }

// GroupRoom returns the id of a group's room.
func GroupRoom(groupID string) string { return "group:" + groupID }

// GroupMember is one member of a group.
type GroupMember struct {
	UserID   string    `json:"user_id"`
	Username string    `json:"username"`
	Role     string    `json:"role"` // owner, admin or member
	JoinedAt time.Time `json:"joined_at"`
}

// GroupDraft describes a group to make.
type GroupDraft struct {
	Name        string         `json:"name"`
	Description string         `json:"description,omitempty"`
	Avatar      string         `json:"avatar,omitempty"`
	Settings    map[string]any `json:"settings,omitempty"`
}

// Created is a new group with its first invite.
type Created struct {
	GroupID    string `json:"group_id"`
	InviteCode string `json:"invite_code"`
}

// Room returns the id of the group's room.
func (c Created) Room() string { return GroupRoom(c.GroupID) }

// Invite is a code by which others join.
type Invite struct {
	InviteCode string    `json:"invite_code"`
	ExpiresAt  time.Time `json:"expires_at"`
}

// Register makes an account and signs in.
func (a *API) Register(ctx context.Context, username, email, password, deviceInfo string) (Credentials, error) {
	return a.signIn(ctx, "register", map[string]string{
		"username": username, "email": email, "password": password, "device_info": deviceInfo,
	})
}

// Login signs in.
func (a *API) Login(ctx context.Context, email, password, deviceInfo string) (Credentials, error) {
	return a.signIn(ctx, "login", map[string]string{"email": email, "password": password, "device_info": deviceInfo})
}

// Guest signs in without an account; an empty name lets the server choose.
func (a *API) Guest(ctx context.Context, username, deviceInfo string) (Credentials, error) {
	body := map[string]string{"device_info": deviceInfo}
	if username != "" {
		body["username"] = username
	}
	return a.signIn(ctx, "guest", body)
}

func (a *API) signIn(ctx context.Context, how string, body any) (c Credentials, err error) {
	if err = a.do(ctx, http.MethodPost, "/api/v1/auth/"+how, "", body, &c); err != nil {
		return Credentials{}, err
	}
	a.keep(c)
	return c, nil
}

// Logout ends this login and its live sessions.
func (a *API) Logout(ctx context.Context) error {
	// The server takes a token that lapsed lately; call renews an older one.
	if err := a.do(ctx, http.MethodPost, "/api/v1/auth/logout", a.Credentials().Token, nil, nil); err != nil {
		refused, ok := errorsAs(err)
		if !ok || refused.Code != wire.CodeTokenExpired {
			return err
		}
		if err := a.call(ctx, http.MethodPost, "/api/v1/auth/logout", nil, nil); err != nil {
			return err
		}
	}
	a.keep(Credentials{})
	return nil
}

// Profile returns the signed-in user.
func (a *API) Profile(ctx context.Context) (p Profile, err error) {
	return p, a.call(ctx, http.MethodGet, "/api/v1/users/profile", nil, &p)
}

// Groups lists the groups of the user, all pages of them.
func (a *API) Groups(ctx context.Context) ([]GroupSummary, error) {
	return pages[GroupSummary](ctx, a, "/api/v1/groups", "groups")
}

// CreateGroup makes a group that the user owns.
func (a *API) CreateGroup(ctx context.Context, d GroupDraft) (c Created, err error) {
	return c, a.call(ctx, http.MethodPost, "/api/v1/groups", d, &c)
}

// Group returns a group the user is in.
func (a *API) Group(ctx context.Context, groupID string) (g Group, err error) {
	return g, a.call(ctx, http.MethodGet, groupPath(groupID), nil, &g)
}

// Invite makes a code by which others join a group.
func (a *API) Invite(ctx context.Context, groupID string) (i Invite, err error) {
	return i, a.call(ctx, http.MethodPost, groupPath(groupID, "invite"), nil, &i)
}

// Join enters a group by an invite code. Joining again is harmless.
func (a *API) Join(ctx context.Context, inviteCode string) (Group, error) {
	var out struct {
		Group Group `json:"group"`
	}
	err := a.call(ctx, http.MethodPost, "/api/v1/groups/join", map[string]string{"invite_code": inviteCode}, &out)
	return out.Group, err
}

// Leave ends one's own membership.
func (a *API) Leave(ctx context.Context, groupID string) error {
	return a.call(ctx, http.MethodPost, groupPath(groupID, "leave"), nil, nil)
}

// Kick removes a member. When it returns, they are out of the group's room in
// this region.
func (a *API) Kick(ctx context.Context, groupID, userID string) error {
	return a.call(ctx, http.MethodDelete, groupPath(groupID, "members", userID), nil, nil)
}

// Messages reads stored messages in ascending order, as Room.History does.
func (a *API) Messages(ctx context.Context, groupID string, before, after uint64, limit int) ([]Message, error) {
	q := url.Values{}
	for name, n := range map[string]uint64{"before": before, "after": after, "limit": uint64(max(limit, 0))} {
		if n != 0 {
			q.Set(name, fmt.Sprint(n))
		}
	}
	var out struct {
		Messages []storedMessage `json:"messages"`
	}
	path := groupPath(groupID, "messages")
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	if err := a.call(ctx, http.MethodGet, path, nil, &out); err != nil {
		return nil, err
	}
	return messagesOf(out.Messages), nil
}

func groupPath(parts ...string) string {
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return "/api/v1/groups/" + strings.Join(parts, "/")
}
