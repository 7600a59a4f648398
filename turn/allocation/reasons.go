package allocation

// Reason is why something was refused or dropped, for metrics.
type Reason uint8

// Requests are refused, packets are dropped.
const (
	Challenged    Reason = iota // no credentials yet: how every client begins
	StaleNonce                  // an old one; the client tries again
	WrongPassword               // or somebody else's username
	Expired                     // the credentials have ended
	Throttled                   // too many wrong ones, or too little sent to be answered
	Malformed                   // no message, or one that is not allowed
	Mismatch                    // there is no such allocation, or there is one
	WrongUser                   // the allocation is somebody else's
	ForbiddenPeer               // see Peers
	UserQuota                   // allocations of the user
	Capacity                    // allocations or ports of the server; permissions or channels of the allocation
	Draining
	Unsupported  // transport, family or attribute
	NoPermission // packet to or from a peer without
	NoChannel    // packet on a number that is not bound
	Bandwidth    // of the user
	Unsent       // the socket did not take it

	Reasons = int(iota)
)

var reasonNames = [Reasons]string{
	"challenged", "stale_nonce", "wrong_password", "expired", "throttled", "malformed", "mismatch", "wrong_user",
	"forbidden_peer", "user_quota", "capacity", "draining", "unsupported", "no_permission", "no_channel", "bandwidth", "unsent",
}

func (r Reason) String() string { return reasonNames[r] }

// Counts are what a machine has done, all growing.
type Counts struct {
	Created, Ended           uint64 // allocations
	PacketsOut, PacketsIn    uint64 // relayed to peers, and to clients
	BytesOut, BytesIn        uint64 // of payload
	Refused                  [Reasons]uint64
	Bindings                 uint64
	Permissions, ChannelsSet uint64 // granted
}

// Add adds those of another machine.
func (c *Counts) Add(d *Counts) {
	c.Created += d.Created
	c.Ended += d.Ended
	c.PacketsOut += d.PacketsOut
	c.PacketsIn += d.PacketsIn
	c.BytesOut += d.BytesOut
	c.BytesIn += d.BytesIn
	c.Bindings += d.Bindings
	c.Permissions += d.Permissions
	c.ChannelsSet += d.ChannelsSet
	for r := range d.Refused {
		c.Refused[r] += d.Refused[r]
	}
}
