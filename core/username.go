package core

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"

	"github.com/mustermesh/muster/internal/errs"
)

// Username is the name that a user is known by: Display is what others read,
// Key is what must be unique, so that "Ana", "ANA" and "ａｎａ" are one name.
type Username struct {
	Display, Key string
}

// ErrBadUsername explains what a username may look like.
var ErrBadUsername = errs.New(errs.Invalid, "bad_username",
	"a username has 2 to 32 characters: letters and digits of any script, spaces, and . _ -")

// ParseUsername normalizes and checks a username: the Nickname profile of
// RFC 8266 (compatibility forms are unified, spaces trimmed and collapsed),
// narrowed to characters that can't pass for markup or hide.
func ParseUsername(s string) (Username, error) {
	if len(s) > 4*64 { // before the normalization, which costs time
		return Username{}, ErrBadUsername
	}
	display, err := precis.Nickname.String(s)
	if err != nil {
		return Username{}, ErrBadUsername
	}
	if n := utf8.RuneCountInString(display); n < 2 || n > 32 {
		return Username{}, ErrBadUsername
	}
	named := false // at least one letter or digit: "..." is no name
	for _, r := range display {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r):
			named = true
		case unicode.IsMark(r), r == ' ', r == '.', r == '_', r == '-':
		default:
			return Username{}, ErrBadUsername
		}
	}
	key, err := precis.Nickname.CompareKey(display)
	if err != nil || !named {
		return Username{}, ErrBadUsername
	}
	return Username{Display: display, Key: key}, nil
}
