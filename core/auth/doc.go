// Package auth says who somebody is: accounts and guests, passwords, logins,
// access and refresh tokens, and the keys that sign them.
//
// # A login
//
// A login is an authenticated device. It is one row, and a family of refresh
// tokens of which only the newest is good:
//
//	register ─┐
//	login ────┼─▶ live ──refresh──▶ live (old token used, new one made)
//	guest ────┘    │ └─upgrade────▶ live (a guest becomes an account, same user)
//	               │
//	               ├─ logout ────────────────────────▶ revoked (signed_out)
//	               ├─ ended from another login ──────▶ revoked (ended)
//	               ├─ the password is another one ───▶ revoked (password)
//	               ├─ the account is ended ──────────▶ revoked (deleted)
//	               └─ a used token is used again ────▶ revoked (refresh_reused)
//
// A refresh token is 256 random bits, stored only as its SHA-256, so that a
// stolen database signs nobody in (RFC 9700 section 4.14: rotation, and the
// whole family ends on reuse, since either the thief or the owner is too late
// and nobody can say which). A revoked login stays revoked.
//
// # Access tokens
//
// An access token is a JWT (RFC 7519) signed with Ed25519 (RFC 8037), valid for
// some minutes, that a Verifier checks with the public keys it holds: no
// database on the way. What it cannot know, that the login was revoked since,
// reaches edges by Announcer and, should that be lost, by RevokedSince.
//
// A gateway of a fleet has such a token, too, in trade for its key (core/fleets);
// the claim "fleet" says so, and nothing that is a user's takes it.
//
// # Keys
//
// Signing keys are rows, the private part sealed with AES-GCM under a secret
// that only the nodes have. A key's life, in order:
//
//	created ── publish ──▶ signs ──▶ retire_at ── last token dead ──▶ deleted
//	   everybody may verify with it all the while
//
// A successor is made a while before retire_at and waits until every verifier
// has had time to read it, so rotation refuses no token. JWKS publishes the
// public parts (RFC 7517).
//
// # Passwords
//
// argon2id with OWASP's parameters. Hashing costs 19 MiB each, so only a few
// run at once and the queue before them is bounded: a storm of logins is
// answered 503, it doesn't eat the memory. They run in processes of their own
// where there are such (core/auth/hashers). An unknown mail address costs the
// same time as a wrong password. A sign-in, or a change that a password allowed,
// looks in its transaction whether that is still the password.
//
// # Mail addresses
//
// What a mail carries is a token like a refresh token: random, stored as a hash,
// good once and for a while, for one purpose and the address that it went to.
//
//	register ──▶ verify ──▶ email_verified
//	ask for another address ──▶ change, to that address ──▶ it takes the old one's place, which is told
//	forgot ──▶ (a job looks for the account) ──▶ reset ──▶ a new password; all logins end
//
// # Google
//
// core/auth/google asks who it is; which account that is stands at GoogleSignIn.
//
// # The audit log
//
// Whatever happens to an account's security is noted in the same transaction, for
// its user to read: see Audit.
package auth
