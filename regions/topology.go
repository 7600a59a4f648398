package regions

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Topology says which regions and nodes are configured, where they are and
// under which addresses they can be reached. It says nothing about who is up.
type Topology struct {
	// DNSName is the name under which clients reach the nearest region's nodes;
	// optional. `muster serve --roles dns` answers for it.
	DNSName string   `json:"dns_name,omitempty" yaml:"dns_name,omitempty"`
	Regions []Region `json:"regions" yaml:"regions"`
}

// Region is a set of nodes near each other.
type Region struct {
	Name     RegionID `json:"name" yaml:"name"`
	Location Location `json:"location" yaml:"location"`
	// DNSName is the name under which clients reach this region's nodes,
	// wherever they are; optional.
	DNSName string `json:"dns_name,omitempty" yaml:"dns_name,omitempty"`
	// Nodes are those to begin with: the region may have got others since.
	Nodes []Node `json:"nodes" yaml:"nodes"`
	// TURN are the relays there for calls, the best first; optional.
	TURN []TURN `json:"turn,omitempty" yaml:"turn,omitempty"`
}

// TURN is a relay for calls of clients that can't be reached otherwise.
type TURN struct {
	// Node is the one that runs it, with the role turn: while that drains or is down,
	// clients are not told of the relay. Empty: it runs by itself (`muster turn`).
	Node NodeID `json:"node,omitempty" yaml:"node,omitempty"`
	// URLs as of RFC 7065, such as turn:turn.example.org:3478?transport=udp, the best
	// first.
	URLs []string `json:"urls" yaml:"urls"`
}

// Location is where a region is, in degrees (WGS 84). One of the region's
// cities is precise enough: it serves to find the nearest region.
type Location struct {
	Lat float64 `json:"lat" yaml:"lat"`
	Lng float64 `json:"lng" yaml:"lng"`
}

// Node is one server process.
type Node struct {
	ID NodeID `json:"id" yaml:"id"`
	// Peer is the UDP host:port on which other nodes reach it.
	Peer string `json:"peer" yaml:"peer"`
	// HTTP, WS and WT are the URLs under which clients reach its API, its
	// WebSocket and its WebTransport endpoint. A node without edge or core
	// leaves them out.
	HTTP string `json:"http,omitempty" yaml:"http,omitempty"`
	WS   string `json:"ws,omitempty" yaml:"ws,omitempty"`
	WT   string `json:"wt,omitempty" yaml:"wt,omitempty"`
}

// LoadTopology reads and validates a topology file, YAML or JSON.
func LoadTopology(path string) (*Topology, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("topology: %w", err)
	}
	t, err := ParseTopology(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// ParseTopology reads YAML, or JSON if it starts with a brace, and validates
// it. Unknown keys are errors: a misspelt one would silently be a default.
func ParseTopology(b []byte) (*Topology, error) {
	var t Topology
	var err error
	if trimmed := bytes.TrimSpace(b); len(trimmed) > 0 && trimmed[0] == '{' {
		d := json.NewDecoder(bytes.NewReader(trimmed))
		d.DisallowUnknownFields()
		err = d.Decode(&t)
	} else {
		d := yaml.NewDecoder(bytes.NewReader(b))
		d.KnownFields(true)
		err = d.Decode(&t)
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("topology: %w", err)
	}
	if err := t.Validate(); err != nil {
		return nil, err
	}
	return &t, nil
}

// Region returns a region by name.
func (t *Topology) Region(name RegionID) (Region, bool) {
	for _, r := range t.Regions {
		if r.Name == name {
			return r, true
		}
	}
	return Region{}, false
}

// Node returns a node by id, and its region.
func (t *Topology) Node(id NodeID) (Node, RegionID, bool) {
	for _, r := range t.Regions {
		for _, n := range r.Nodes {
			if n.ID == id {
				return n, r.Name, true
			}
		}
	}
	return Node{}, "", false
}

// namePattern keeps names usable as DNS labels and in certificates' URIs.
var namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// ValidName reports whether s can name a region or a node: lower-case letters,
// digits and inner hyphens, at most 63.
func ValidName(s string) bool { return namePattern.MatchString(s) }

// Validate reports everything that is wrong, each with its place.
func (t *Topology) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("topology: "+format, args...)) }
	if len(t.Regions) == 0 {
		bad("has no regions")
	}
	names := map[string]string{}
	name := func(at, s string) {
		switch {
		case s == "":
		case !validHost(s):
			bad("%s: dns_name %q must be a host name in lower case, such as edge.example.org, without a dot at the end", at, s)
		case names[s] != "":
			bad("%s: dns_name %s is also that of %s", at, s, names[s])
		default:
			names[s] = at
		}
	}
	if t.DNSName != "" {
		name("the nearest region", t.DNSName)
	}
	regions := map[RegionID]bool{}
	ids := map[NodeID]bool{}
	peers := map[string]NodeID{}
	for i, r := range t.Regions {
		at := fmt.Sprintf("regions[%d]", i)
		if ValidName(string(r.Name)) {
			at = fmt.Sprintf("region %s", r.Name)
		} else {
			bad("%s: name %q must be lower-case letters, digits and hyphens", at, r.Name)
		}
		if regions[r.Name] {
			bad("%s: is listed twice", at)
		}
		regions[r.Name] = true
		if l := r.Location; !(l.Lat >= -90 && l.Lat <= 90 && l.Lng >= -180 && l.Lng <= 180) {
			bad("%s: location (%v, %v) is not on Earth: lat is -90…90, lng -180…180", at, l.Lat, l.Lng)
		}
		name(at, r.DNSName)
		if len(r.Nodes) == 0 {
			bad("%s: has no nodes", at)
		}
		for j, x := range r.TURN {
			if len(x.URLs) == 0 {
				bad("%s: turn[%d]: has no urls", at, j)
			}
			for _, u := range x.URLs {
				if !strings.HasPrefix(u, "turn:") && !strings.HasPrefix(u, "turns:") {
					bad("%s: turn[%d]: %q is no URL of a TURN server, such as turn:turn.example.org:3478?transport=udp", at, j, u)
				}
			}
		}
		for j, n := range r.Nodes {
			at := fmt.Sprintf("%s: nodes[%d]", at, j)
			if ValidName(string(n.ID)) {
				at = fmt.Sprintf("node %s", n.ID)
			} else {
				bad("%s: id %q must be lower-case letters, digits and hyphens", at, n.ID)
			}
			if ids[n.ID] {
				bad("%s: is listed twice", at)
			}
			ids[n.ID] = true
			if err := checkPeer(n.Peer); err != nil {
				bad("%s: peer %q: %w", at, n.Peer, err)
			} else if other, taken := peers[n.Peer]; taken {
				bad("%s: peer %s is also that of %s", at, n.Peer, other)
			}
			peers[n.Peer] = n.ID
			if err := n.checkURLs(); err != nil {
				bad("%s: %w", at, err)
			}
		}
	}
	return errors.Join(errs...)
}

// check is Validate for a node that is in no file.
func (n Node) check() error {
	if !ValidName(string(n.ID)) {
		return fmt.Errorf("id %q", n.ID)
	}
	return errors.Join(checkPeer(n.Peer), n.checkURLs())
}

func (n Node) checkURLs() error {
	var errs []error
	for _, u := range []struct{ key, url, a, b string }{
		{"http", n.HTTP, "http", "https"}, {"ws", n.WS, "ws", "wss"}, {"wt", n.WT, "https", "https"},
	} {
		if err := checkURL(u.url, u.a, u.b); err != nil {
			errs = append(errs, fmt.Errorf("%s %q: %w", u.key, u.url, err))
		}
	}
	return errors.Join(errs...)
}

// validHost reports whether s is a name in the DNS as a file should have it.
func validHost(s string) bool {
	if len(s) > 253 || !strings.Contains(s, ".") {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !ValidName(label) {
			return false
		}
	}
	return true
}

func checkPeer(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return errors.New("must be host:port")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return errors.New("port must be 1…65535")
	}
	return nil
}

func checkURL(s, scheme, or string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil {
		return err
	}
	if (u.Scheme != scheme && u.Scheme != or) || u.Host == "" {
		return fmt.Errorf("must be an absolute %s URL", or)
	}
	return nil
}
