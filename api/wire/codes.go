package wire

// Codes of the failures that a realtime client can meet, in Error and Close
// frames. docs/protocol.md explains each.
const (
	CodeBadFrame        = "bad_frame"           // does not decode, or has no body that we know
	CodeTooLarge        = "too_large"           // frame longer than the limit
	CodeBadVersion      = "unsupported_version" // Hello.version
	CodeUnauthenticated = "unauthenticated"     // forged, malformed or missing token
	CodeTokenExpired    = "token_expired"
	CodeSignedOut       = "signed_out" // the login was ended
	CodeBadDevice       = "bad_device"
	CodeBadRoom         = "bad_room"  // not a room id
	CodeForbidden       = "forbidden" // a fleet's gateway asks what is a user's, or a user what is a gateway's
	CodeNotMember       = "not_member"
	CodeNotJoined       = "not_joined"
	CodeTooManyRooms    = "too_many_rooms"
	CodeBadCoordinates  = "bad_coordinates" // NaN, infinite, out of range
	CodeBadFix          = "bad_fix"         // accuracy, speed, heading, n
	CodeBadSubject      = "bad_subject"     // the name of a fleet's subject
	CodeFixInFuture     = "fix_in_future"
	CodeFixTooOld       = "fix_too_old"
	CodeBadMessage      = "bad_message" // empty, too long, not UTF-8, no client id
	CodeBadRequest      = "bad_request" // any other input that makes no sense
	CodeRateLimited     = "rate_limited"
	CodeRetry           = "retry"            // not ready: again after retry_after
	CodeHomeUnreachable = "home_unreachable" // the region that writes the room's messages can't be reached
	CodeEnded           = "conversation_ended"
	CodeSuperseded      = "superseded" // live elsewhere under a higher epoch
	CodeBadTicket       = "bad_ticket" // forged, old, or somebody else's: connect again without it
	CodeDraining        = "draining"   // the node shuts down
	CodeSlow            = "slow_reader"
	CodeTimeout         = "timeout" // no hello, or no ping, for too long
	CodeInternal        = "internal"

	CodeNoCall           = "no_call" // none of this id in a room of the user's
	CodeCallFull         = "call_full"
	CodeCallLocked       = "call_locked"
	CodeNotInCall        = "not_in_call" // join it first
	CodeCallEnded        = "call_ended"
	CodeNoMedia          = "no_media"          // no media server takes the call: again after retry_after
	CodeFloorUnavailable = "floor_unavailable" // the region that keeps the talk floor can't be reached
	CodeBadDescription   = "bad_description"   // a session description that can't be answered
)
