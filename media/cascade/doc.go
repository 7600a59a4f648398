// Package cascade carries tracks between SFUs in datagrams that may be lost or come in
// another order, and repairs what is lost by asking for it. It is pure: no sockets, no
// goroutines, no clock.
package cascade
