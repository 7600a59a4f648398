// Package cred makes and checks what a client shows to a TURN server: credentials
// that end by themselves, made by whoever shares a secret with the server and
// without asking it (draft-uberti-behave-turn-rest-00, which coturn and others
// speak too). It has no sockets and reads no clock.
//
//	username = <Unix seconds of the end> ":" <user id>
//	password = base64(HMAC-SHA1(secret, username))
//	key      = MD5(username ":" realm ":" password)      RFC 8489 section 9.2.2
//
// The key is what signs STUN messages. A secret is replaced in three steps: the new
// one is added at the end on all servers, then put first where credentials are
// minted, and the old one is taken away when what it minted has ended.
package cred

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"
)

// MinSecret is how many bytes a secret has at least.
const MinSecret = 16

// maxUser is the longest user id that fits a username: 508 bytes at most (RFC 8489
// section 14.3).
const maxUser = 256

// Why credentials are refused. The server counts them apart; a client is told no
// more than that it is not authorized.
var (
	ErrMalformed = errors.New("turn: the username is not EXPIRY:USER")
	ErrExpired   = errors.New("turn: the credentials have ended")
	ErrPassword  = errors.New("turn: the password is not this username's")
)

// Secrets are what credentials are made of: the first one mints, all are accepted.
type Secrets []string

// Validate reports what is wrong with the secrets.
func (s Secrets) Validate() error {
	if len(s) == 0 {
		return errors.New("turn: there is no secret: TURN servers and those who mint credentials share one")
	}
	for _, secret := range s {
		if len(secret) < MinSecret {
			return errors.New("turn: a secret has at least " + strconv.Itoa(MinSecret) + " bytes, better 32 random ones")
		}
	}
	return nil
}

// Mint returns credentials of a user that end ttl after now. user is an id of 1 to 256
// bytes without control characters; it is shown to the TURN server and to whoever
// reads the packets, so it must not be a mail address.
func (s Secrets) Mint(user string, now time.Time, ttl time.Duration) (username, password string) {
	return Mint(s[0], user, now, ttl)
}

// Mint is Secrets.Mint with one secret.
func Mint(secret, user string, now time.Time, ttl time.Duration) (username, password string) {
	username = strconv.FormatInt(now.Add(ttl).Unix(), 10) + ":" + user
	return username, Password(secret, username)
}

// Password is what belongs to a username under a secret.
func Password(secret, username string) string {
	h := hmac.New(sha1.New, []byte(secret))
	h.Write([]byte(username))
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// Parse takes a username apart. It does not say whether somebody may use it: only a
// signature under a key of Keys does.
func Parse(username string) (user string, expiry time.Time, err error) {
	end, user, ok := strings.Cut(username, ":")
	if !ok || user == "" || len(user) > maxUser || len(end) > 12 {
		return "", time.Time{}, ErrMalformed
	}
	for _, c := range []byte(end) {
		if c < '0' || c > '9' {
			return "", time.Time{}, ErrMalformed
		}
	}
	for _, c := range []byte(user) {
		if c < ' ' || c == 0x7f {
			return "", time.Time{}, ErrMalformed
		}
	}
	seconds, err := strconv.ParseInt(end, 10, 64)
	if err != nil {
		return "", time.Time{}, ErrMalformed
	}
	return user, time.Unix(seconds, 0), nil
}

// Key is the long-term key of a username and its password (RFC 8489 section 9.2.2).
type Key [md5.Size]byte

// KeyOf derives a key.
func KeyOf(username, realm, password string) Key {
	return md5.Sum([]byte(username + ":" + realm + ":" + password))
}

// Keys are the keys that a message of the username may be signed with, one for each
// secret.
func (s Secrets) Keys(username, realm string) []Key {
	keys := make([]Key, len(s))
	for i, secret := range s {
		keys[i] = KeyOf(username, realm, Password(secret, username))
	}
	return keys
}

// Check reports whose credentials these are: ErrMalformed, ErrExpired, or ErrPassword,
// which is compared in constant time.
func (s Secrets) Check(username, password string, now time.Time) (user string, err error) {
	user, expiry, err := Parse(username)
	if err != nil {
		return "", err
	}
	ok := false
	for _, secret := range s {
		if hmac.Equal([]byte(password), []byte(Password(secret, username))) {
			ok = true
		}
	}
	switch {
	case !ok:
		return "", ErrPassword
	case !now.Before(expiry):
		return "", ErrExpired
	}
	return user, nil
}
