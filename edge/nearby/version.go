package nearby

import "time"

// A version orders what is said of one user's point by all nodes: first by the
// minute of the capture, so that a fix that was held back does not replace a
// newer one that another node has; then by when it was put here, since coarse
// views know the minute alone and a change of the grant changes the view of one
// fix. Clocks of nodes that differ by less than the time between two fixes do no
// harm, and by more only as long as the minute lasts. From the top:
//
//	28 bits  the minute of the capture, since 1970
//	28 bits  ms from that minute until it was put
//	 8 bits  counts versions of one ms, and of points that are told anew
const (
	subBits    = 8
	putBits    = 28
	minuteBits = 28
)

// versionOf returns the version of a view that is put now, above last unless it
// was captured in an earlier minute.
func versionOf(captured, now time.Time, last uint64) uint64 {
	minute := max(captured.Unix()/60, 0)
	put := min(max(now.UnixMilli()-minute*60_000, 0), 1<<putBits-1)
	v := uint64(min(minute, 1<<minuteBits-1))<<(putBits+subBits) | uint64(put)<<subBits
	if v <= last && v>>(putBits+subBits) == last>>(putBits+subBits) {
		v = last + 1
	}
	return v
}
