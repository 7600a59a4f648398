package core

import (
	"encoding/json"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mustermesh/muster/internal/errs"
)

// What users and groups both have: free-form settings, a picture, texts.
var (
	ErrBadSettings = errs.New(errs.Invalid, "bad_settings", "settings is a JSON object of at most 8 KiB")
	ErrBadPicture  = errs.New(errs.Invalid, "bad_picture", "a picture is an https URL of at most 2,048 bytes, or empty")
)

const maxSettings = 8 << 10

// EncodeSettings returns settings as they are stored; nil is an empty object.
func EncodeSettings(settings map[string]any) ([]byte, error) {
	if settings == nil {
		return []byte("{}"), nil
	}
	b, err := json.Marshal(settings)
	if err != nil || len(b) > maxSettings {
		return nil, ErrBadSettings
	}
	return b, nil
}

// CheckPicture wants an https URL, so that a page that shows it stays free of
// mixed content, scripts and local files; empty stands for no picture.
func CheckPicture(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || len(s) > 2048 || u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return ErrBadPicture
	}
	return nil
}

// CleanText trims s and reports whether it has min to max characters and none
// that controls a terminal or is no character at all; lines allows newlines.
func CleanText(s string, min, max int, lines bool) (string, bool) {
	s = strings.TrimSpace(s)
	if !utf8.ValidString(s) || utf8.RuneCountInString(s) < min || utf8.RuneCountInString(s) > max {
		return s, false
	}
	return s, !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsControl(r) && (!lines || r != '\n' && r != '\t')
	})
}
