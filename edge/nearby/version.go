package nearby

import (
	"time"

	"github.com/mustermesh/muster/edge"
	"github.com/mustermesh/muster/regions"
)

// A version orders what is said of one user's point by all nodes: first by the
// minute of the capture, so that a fix that was held back does not replace a
// newer one that another node has; then by when it was put here, since coarse
// views know the minute alone and a change of the grant changes the view of one
// fix. Clocks of nodes that differ by less than the time between two fixes do no
// harm, and by more only as long as the minute lasts. From the top:
//
//	26 bits  the minute of the capture, since 1970
//	28 bits  ms from that minute until it was put; of more than one version in a
//	         ms, and of a point that is told to others, the next ones
//	10 bits  a hash of the node, so that no two have the same
const (
	nodeBits = 10
	putBits  = 28

	step = 1 << nodeBits // from one version of a node to the next
)

// versionOf returns the version of a view that is put now. It is above last, that
// of what it takes the place of on this node, whatever the times say: the coarser
// view of a fix may have been captured before the finer one.
func versionOf(captured, now time.Time, last, node uint64) uint64 {
	minute := max(captured.Unix()/60, 0)
	put := min(max(now.UnixMilli()-minute*60_000, 0), 1<<putBits-1)
	v := uint64(minute)<<(putBits+nodeBits) | uint64(put)<<nodeBits | node
	if v <= last {
		v = last + step
	}
	return v
}

// overtakes returns until when an older version than this one may be somewhere: no
// view is shown for longer after its capture. A version of the time to come is of a
// clock that errs, and counts as one of now.
func overtakes(version uint64, now time.Time) time.Time {
	captured := time.Unix(int64(version>>(putBits+nodeBits)+1)*60, 0) // the end of the minute
	if captured.After(now) {
		captured = now
	}
	return captured.Add(edge.FixLife + edge.CoarseLife)
}

// nodeTag is what a node's versions end with.
func nodeTag(id regions.NodeID) uint64 { return uint64(rankOf(string(id))) % step }
