//go:build nofencing

package edge

// Fencing is switched off: see the other build.
const Fencing = false
