package node

import (
	"github.com/mustermesh/muster/regions"
)

// Ready is what `muster dev --ready-file` writes: where everything is. A key
// is absent until what it names exists.
type Ready struct {
	HTTP       string        `json:"http"`
	Admin      string        `json:"admin"`
	Regions    []ReadyRegion `json:"regions"`
	CertSHA256 string        `json:"cert_sha256"` // base64, of the WebTransport certificate's DER
	DNS        string        `json:"dns"`         // UDP and TCP address of the edge's name server
	DNSName    string        `json:"dns_name"`    // whose addresses are those of the nearest edge
	Database   string        `json:"database"`
	TURN       []ReadyTURN   `json:"turn,omitempty"`
}

// ReadyTURN is a relay for calls. Credentials are had from GET /api/v1/turn.
type ReadyTURN struct {
	Region regions.RegionID `json:"region"`
	URLs   []string         `json:"urls"` // of RFC 7065: UDP, TCP, TLS
}

func readyTURN(t *regions.Topology) (out []ReadyTURN) {
	for _, r := range t.Regions {
		for _, x := range r.TURN {
			out = append(out, ReadyTURN{r.Name, x.URLs})
		}
	}
	return out
}

// ReadyRegion is one region of Ready.
type ReadyRegion struct {
	Name  regions.RegionID `json:"name"`
	Nodes []ReadyNode      `json:"nodes"`
}

// ReadyNode is one node of Ready, with the URLs under which clients reach it.
type ReadyNode struct {
	ID   regions.NodeID `json:"id"`
	HTTP string         `json:"http"`
	WS   string         `json:"ws"`
	WT   string         `json:"wt"`
}

func ready(t *regions.Topology) []ReadyRegion {
	var out []ReadyRegion
	for _, r := range t.Regions {
		region := ReadyRegion{Name: r.Name}
		for _, n := range r.Nodes {
			region.Nodes = append(region.Nodes, ReadyNode{ID: n.ID, HTTP: n.HTTP, WS: n.WS, WT: n.WT})
		}
		out = append(out, region)
	}
	return out
}
