// Package httpapi is the HTTP API under /api/v1: it turns requests into calls
// of the core's domains and their answers into JSON, and decides nothing that
// belongs to a domain. Each domain has one file of operations here.
//
// A request passes, from outside in:
//
//	observe    request id, access log, metrics, a panic becomes a 500
//	guard      security headers, CORS, the body's declared length, a deadline
//	router     chi: unknown paths and methods are problems too
//	huma       per operation: who asks and how often (limits.go), strict JSON
//	           against the schema that the OpenAPI document shows
//	once       writes with an Idempotency-Key: see below
//	operation  one call into a domain
//
// Every failure, from a missing path to a panic, is a problem+json document
// (RFC 9457) whose "code" is one of internal/errs; the same codes are used by
// the realtime protocol.
//
// Lists are paged by cursor: the next page is named by a Link header (RFC 8288),
// so bodies hold what they list and nothing else. Whatever changes something takes
// an Idempotency-Key: the operation runs in one transaction with the storing of its
// answer (idempotency.go), which is replayed. Operations know nothing of that; those
// that can't be one transaction say why where they are registered.
package httpapi
