package wire

// Policy is what a client does after its connection was closed.
type Policy int

const (
	// Reconnect with jittered back-off, not before retry_after_ms.
	Reconnect Policy = iota
	// Final: don't reconnect by yourself; only a person or new code helps.
	Final
	// Refresh: get fresh credentials (an access token; no ticket after
	// bad_ticket), then reconnect.
	Refresh
)

// CloseNormal is the number of a close that the client asked for (Bye).
// It is RFC 6455's 1000; on WebTransport the session's error code is 0.
const CloseNormal = 1000

// The range of a close number is its policy, so that a client handles numbers
// of later versions: 4000-4099 Reconnect, 4100-4199 Final, 4200-4299 Refresh.
// The idea is centrifuge's (disconnect.go). 4000-4999 is the range RFC 6455
// section 7.4.2 leaves to applications; WebTransport uses the same numbers.
var closes = [...]struct {
	code   string
	number uint16
}{
	{CodeDraining, 4000},
	{CodeSlow, 4001},
	{CodeTimeout, 4002},
	{CodeRateLimited, 4003},
	{CodeInternal, 4004},
	{CodeRetry, 4005},

	{CodeSuperseded, 4100},
	{CodeSignedOut, 4101},
	{CodeBadVersion, 4102},
	{CodeBadDevice, 4103},
	{CodeBadFrame, 4104},
	{CodeTooLarge, 4105},
	{CodeBadRequest, 4106},

	{CodeTokenExpired, 4200},
	{CodeUnauthenticated, 4201},
	{CodeBadTicket, 4202},
}

// CloseNumber returns the number a connection is closed with for a code;
// ok is false if that code never closes one.
func CloseNumber(code string) (number uint16, ok bool) {
	for _, c := range closes {
		if c.code == code {
			return c.number, true
		}
	}
	return 0, false
}

// CloseCode returns the code of a close number, "" if it is not known.
func CloseCode(number uint16) string {
	for _, c := range closes {
		if c.number == number {
			return c.code
		}
	}
	return ""
}

// PolicyOf returns what to do after a close with the given number, by its range
// alone. A connection that broke without one, or with one of the transport's
// own, is one to make again; after a Bye nobody asks.
func PolicyOf(number uint16) Policy {
	switch {
	case number >= 4100 && number < 4200:
		return Final
	case number >= 4200 && number < 4300:
		return Refresh
	default:
		return Reconnect
	}
}
