//go:build !linux

package turn

// sharePorts says whether sockets can share a port here.
const sharePorts = false

func newCarrier(sh *shard) (carrier, error) { return newPlain(sh) }
