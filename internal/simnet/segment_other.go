//go:build !linux

package simnet

// segment: segmentation offload exists on Linux only.
func segment(oob []byte) (size int, rest []byte) { return 0, oob }
