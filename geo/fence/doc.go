// Package fence tells who enters and leaves areas, and who comes near whom, from
// fixes that are noisy, sparse and late.
package fence
