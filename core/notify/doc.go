// Package notify tells people things, by the ways that they chose.
package notify
