package cred

import (
	"cmp"
	"slices"
	"time"
)

// ICEServer is an RTCIceServer of the W3C (WebRTC 1.0 section 4.2.4), as browsers take
// it.
type ICEServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username,omitempty"`
	Credential string   `json:"credential,omitempty"`
}

// Server is a TURN server as a client is told about it.
type Server struct {
	Region   string
	URLs     []string // of RFC 7065, such as turn:host:3478?transport=udp, best first
	Draining bool     // takes no new clients
}

// Ordered returns the servers in the order of their regions, nearest first; within a
// region, and among those whose region is in no place, the order stays. Those that
// drain are left out, unless all do: an allocation refused is an answer, none to ask
// is a call without relay.
func Ordered(servers []Server, regions []string) []Server {
	open := slices.DeleteFunc(slices.Clone(servers), func(s Server) bool { return s.Draining })
	if len(open) == 0 {
		open = slices.Clone(servers)
	}
	place := func(s Server) int {
		if i := slices.Index(regions, s.Region); i >= 0 {
			return i
		}
		return len(regions)
	}
	slices.SortStableFunc(open, func(a, b Server) int { return cmp.Compare(place(a), place(b)) })
	return open
}

// ICEServers are the servers with credentials of a user, for the client.
func (s Secrets) ICEServers(servers []Server, user string, now time.Time, ttl time.Duration) []ICEServer {
	if len(servers) == 0 {
		return nil
	}
	username, password := s.Mint(user, now, ttl)
	list := make([]ICEServer, len(servers))
	for i, server := range servers {
		list[i] = ICEServer{URLs: server.URLs, Username: username, Credential: password}
	}
	return list
}
