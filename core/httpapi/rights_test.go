package httpapi

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core"
)

// The authorisation matrix: every operation of the document, asked by everybody
// whom it may matter for. What they are answered stands in rights (rights_rows_test.go),
// one row per operation; a new operation without a row fails here.

// right is what the five who are signed in are answered: ok, or the code of the
// refusal. Who isn't signed in is refused as such, unless the operation is public.
type right struct {
	who string // stranger, blocked, member, admin, owner
	// body is sent by all of them. Words in braces are replaced by ids: those of
	// people, the group, and what make makes.
	body  string
	query string
	// make makes what the request is about, for each of them anew, usually as the
	// owner: it returns values of the path's parameters and of words of the body.
	make   func(w *world) map[string]string
	public bool // asked without a token
}

const (
	everybody = "ok ok ok ok ok"
	members   = "not_member ok ok ok ok"
	admins    = "not_member role_required role_required ok ok"
	ownerOnly = "not_member role_required role_required role_required ok"
)

var signedIn = []string{"stranger", "blocked", "member", "admin", "owner"}

// world is a group with everybody in it, and some who aren't.
type world struct {
	*bundle
	people map[string]person
	group  string
	made   map[string]string
}

// newWorld makes a group of the owner's with an admin, a member, another member,
// and somebody whom the owner has blocked; a stranger, and somebody deleted.
func newWorld(b *bundle) *world {
	w := &world{bundle: b, people: map[string]person{}, made: map[string]string{}}
	for _, name := range append([]string{"deleted", "other"}, signedIn...) {
		w.people[name] = b.guest("")
	}
	owner := w.people["owner"]
	w.group = b.group(owner, w.people["admin"], w.people["member"], w.people["other"], w.people["blocked"], w.people["deleted"])
	b.ok("PUT", "/groups/"+w.group+"/members/"+w.people["admin"].id, owner.token, obj{"role": "admin"})
	b.ok("POST", "/blocks", owner.token, obj{"user_id": w.people["blocked"].id})
	gone, err := core.ParseUserID(w.people["deleted"].id)
	require.NoError(b.t, err)
	require.NoError(b.t, b.db.InTx(b.t.Context(), pgx.TxOptions{}, func(ctx context.Context, tx pgx.Tx) error {
		return b.auth.Retire(ctx, tx, gone)
	}))
	return w
}

// once returns what was made for this world, and makes it at first.
func (w *world) once(name string, make func() string) string {
	if _, ok := w.made[name]; !ok {
		w.made[name] = make()
	}
	return w.made[name]
}

// described is an operation of the document.
type described struct {
	id, method, path string
	public           bool
	operation        obj
}

func operationsOf(doc obj) (list []described) {
	for path, item := range doc["paths"].(obj) {
		for method, op := range item.(obj) {
			o := op.(obj)
			list = append(list, described{o["operationId"].(string), strings.ToUpper(method), strings.TrimPrefix(path, prefix), len(o["security"].([]any)) == 0, o})
		}
	}
	slices.SortFunc(list, func(a, b described) int { return cmp.Compare(a.id, b.id) })
	return list
}

// asks sends an operation's request as somebody, and says how it was answered.
func (w *world) asks(d described, r right, token string) string {
	words := map[string]string{"group_id": w.group, "user_id": w.people["owner"].id, "group": w.group, "new": uuid.NewString()[:13]}
	for name, p := range w.people {
		words[name] = p.id
	}
	if r.make != nil {
		maps.Copy(words, r.make(w))
	}
	var pairs []string
	for word, value := range words {
		pairs = append(pairs, "{"+word+"}", value)
	}
	replace := strings.NewReplacer(pairs...).Replace
	var body any
	if r.body != "" {
		body = replace(r.body)
	}
	path := replace(d.path)
	require.NotContains(w.t, path, "{", "%s: make returns what stands for this in the path", d.id)
	a := w.request(d.method, path+replace(r.query), token, body)
	if a.StatusCode < 300 {
		return "ok"
	}
	return fmt.Sprint(cmp.Or(a.body["code"], any(a.StatusCode)))
}

func TestRights(t *testing.T) {
	b := setup(t)
	var doc obj
	require.NoError(t, json.Unmarshal(b.ok("GET", "/openapi.json", "", nil).raw, &doc))
	seen := map[string]bool{}
	quiet := newWorld(b) // in which nothing changes
	for _, d := range operationsOf(doc) {
		seen[d.id] = true
		r, ok := rights[d.id]
		if !ok {
			t.Errorf("%s (%s %s) has no row in rights (core/httpapi/rights_rows_test.go). Add one that says what a stranger, "+
				"somebody whom the owner blocked, a member, an admin and the owner of a group are answered, such as\n\t%q: {who: members},", d.id, d.method, d.path, d.id)
			continue
		}
		if r.public != d.public {
			t.Errorf("%s: public is %t in the document", d.id, d.public)
			continue
		}
		w := quiet
		if d.method != http.MethodGet && !d.public {
			w = newWorld(b)
		}
		if !d.public {
			gateway := w.once("gateway", func() string {
				return w.gateway(w.people["owner"], b.ok("POST", "/fleets", w.people["owner"].token, obj{"name": "x"}).str("fleet_id"))
			})
			for token, code := range map[string]string{
				"":                             "unauthenticated",
				"x." + w.people["owner"].token: "unauthenticated",
				w.people["deleted"].token:      "signed_out",
				gateway:                        "fleet_token",
			} {
				if got := w.asks(d, r, token); got != code {
					t.Errorf("%s: who has no token that counts is answered %s instead of %s", d.id, got, code)
				}
			}
		}
		var got []string
		for _, who := range signedIn {
			token := w.people[who].token
			if d.public {
				token = ""
			}
			got = append(got, w.asks(d, r, token))
		}
		if is := strings.Join(got, " "); is != r.who {
			t.Errorf("%s: stranger, blocked, member, admin and owner are answered\n\t%q: {who: %q},\ninstead of\n\t%q", d.id, d.id, is, r.who)
		}
	}
	for id := range rights {
		if !seen[id] {
			t.Errorf("%s has a row in rights and is no operation", id)
		}
	}
}
