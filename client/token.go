package client

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
)

// remaining reads how long a JSON Web Token (RFC 7519) is still good, without
// checking it: that is the server's business. If it is none of ours it has the
// life of the one before.
func remaining(token string, otherwise time.Duration) time.Duration {
	var claims struct {
		Expires  int64 `json:"exp"`
		IssuedAt int64 `json:"iat"`
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return otherwise
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(b, &claims) != nil || claims.Expires <= claims.IssuedAt {
		return otherwise
	}
	// Since it is fresh, its life as issued is what remains, whatever our clock
	// says; unless our clock says that it is less.
	life := time.Duration(claims.Expires-claims.IssuedAt) * time.Second
	if left := time.Until(time.Unix(claims.Expires, 0)); left > 0 {
		life = min(life, left)
	}
	return life
}
