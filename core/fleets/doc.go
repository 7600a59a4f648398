// Package fleets is what must not be lost about fleets: whose they are, who sees
// their subjects, and the keys of their gateways.
//
// A fleet is many subjects (vehicles, parcels, scooters) whose positions come
// through gateways that its owner trusts. A gateway trades its key for an access
// token (core/auth) and opens a session with it, on which it says where subjects
// are. Subjects have no rows: the gateway names them, the edge knows them as long
// as they are told of, and who may see them is the fleet's to say.
//
//	owner ──▶ fleet ─┬─ version, who sees it ──▶ FleetChanged ─▶ edges drop what they kept
//	                 └─ keys ── Open ──▶ access token ──▶ session
//	                      └─ revoked ──▶ KeysRevoked ──▶ its sessions end
//
// # Who sees it
//
// Everybody who is signed in, at the fleet's precision, until an expiry; or
// nobody. It is one grant for all subjects, so a change of it is one row and one
// announcement, whether there are ten of them or a million. Each change adds one
// to the fleet's version in its transaction; all nodes are told the version after
// the commit, and never use choices of an earlier one from then on. Who could not
// be told reads again after a while.
//
// # Keys
//
// A key's secret is made from its id and the deployment's secret (HMAC-SHA-256), so
// that a repeated request gets the same answer without the secret being stored; the
// database has its SHA-256. A revoked key stays revoked, its row stays for a day:
// nodes that were not told that it ended ask for it (RevokedSince). Deleting a
// fleet revokes its keys and shows its subjects to nobody, in one transaction.
//
// docs/adr/0097-fleets.md has the reasons.
package fleets
