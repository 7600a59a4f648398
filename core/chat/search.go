package chat

import (
	"context"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/mustermesh/muster/core"
	"github.com/mustermesh/muster/core/db"
	"github.com/mustermesh/muster/internal/errs"
)

// Search returns messages that have all words of a query, the last of which may be the
// beginning of one, the latest first; next is the cursor of the next page. It looks in
// the conversations that the viewer is in now, or in one of them. What they deleted for
// themself isn't found. A query has 2 letters or digits at least.
func (c *Chat) Search(ctx context.Context, viewer core.UserID, room, query, cursor string, limit int) (list []Message, next string, err error) {
	words := searchWords(query)
	if words == "" {
		return nil, "", ErrBadSearch
	}
	after, err := core.ParseCursor(cursor, true)
	if err != nil {
		return nil, "", err
	}
	limit = min(max(limit, 1), MaxPage)
	err = c.db.Read(ctx, func(ctx context.Context, q db.Querier) error {
		rows, err := q.Query(ctx, `SELECT `+full+` WHERE `+found, viewer, room, words, after.At, after.ID, limit+1)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, scanFull)
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("search messages: %w", err)
	}
	list, next = core.Page(list, limit, func(m Message) core.Position { return core.Position{At: m.SentAt, ID: m.ID} })
	return list, next, nil
}

// found are the messages of a search. Whom one is on no terms with is met in no room of
// two, as Conversations.Standing has it.
const found = `
	to_tsvector('simple', m.body) @@ to_tsquery('simple', $3)
	AND m.room IN (
		SELECT 'group:' || CAST(g.group_id AS TEXT) FROM group_members AS g WHERE g.user_id = $1
		UNION ALL
		SELECT c.room FROM conversation_people AS p JOIN conversations AS c ON c.room = p.room
		WHERE p.user_id = $1 AND p.left_at IS NULL AND NOT (c.pair AND EXISTS (
			SELECT 1 FROM conversation_people AS o JOIN blocks AS b
			ON b.blocker = $1 AND b.blocked = o.user_id OR b.blocker = o.user_id AND b.blocked = $1 WHERE o.room = c.room)))
	AND ($2::TEXT = '' OR m.room = $2::TEXT)
	AND (m.sent_at, m.id) < ($4, $5)
	AND NOT EXISTS (SELECT 1 FROM message_hidden AS h WHERE h.user_id = $1 AND h.room = m.room AND h.number = m.number)
	ORDER BY m.sent_at DESC, m.id DESC LIMIT $6`

// ErrBadSearch is for what can't be searched for.
var ErrBadSearch = errs.New(errs.Invalid, "bad_query", "search for at least 2 letters or digits, and at most %d words", maxWords).At("query.q")

const maxWords = 8

// searchWords makes a tsquery of what somebody typed. Each word is quoted, so that the
// database takes it apart as it does messages (of an address it makes one word), and
// nothing in it is an operator.
func searchWords(query string) string {
	if len(query) > 256 || !utf8.ValidString(query) {
		return ""
	}
	var words []string
	length := 0
	for w := range strings.FieldsFuncSeq(strings.ToLower(query), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune(`'"\`, r)
	}) {
		n := 0
		for _, r := range w {
			if unicode.IsLetter(r) || unicode.IsDigit(r) {
				n++
			}
		}
		if length += n; n > 0 {
			words = append(words, w)
		}
	}
	if len(words) == 0 || len(words) > maxWords || length < 2 {
		return ""
	}
	for i, w := range words {
		// A database with the locale C tells no case beyond ASCII: there words stand as
		// they were written, mostly in one of these ways.
		ways := []string{w}
		if first, n := utf8.DecodeRuneInString(w); strings.ContainsFunc(w, func(r rune) bool { return r >= utf8.RuneSelf }) {
			ways = append(ways, string(unicode.ToUpper(first))+w[n:], strings.ToUpper(w))
		}
		end := "'"
		if i == len(words)-1 {
			end = "':*"
		}
		words[i] = "('" + strings.Join(ways, end+" | '") + end + ")"
	}
	return strings.Join(words, " & ")
}
