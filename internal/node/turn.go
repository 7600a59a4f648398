package node

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/mustermesh/muster/api/wire"
	"github.com/mustermesh/muster/geo"
	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/turn/cred"
)

// TURNRealm is that of all relays of a deployment.
const TURNRealm = "muster"

// turnTTL is how long credentials work: a call goes on with those that it began with.
const turnTTL = 12 * time.Hour

// turnSecrets are what credentials are made of, if no others are given: a child of the
// nodes' secret.
func turnSecrets(secret []byte) (cred.Secrets, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, "muster turn v1", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("turn key: %w", err)
	}
	return cred.Secrets{hex.EncodeToString(key)}, nil
}

// relays tells clients which TURN servers there are.
type relays struct {
	region    regions.RegionID
	directory *regions.Directory
	secrets   cred.Secrets
	standing  func(r regions.RegionID) regions.Standing
}

// list are the relays of all regions, the nearest region's first; those that drain, or
// whose node is down, are marked.
func (r *relays) list() []cred.Server {
	topology := r.directory.Topology()
	var servers []cred.Server
	for _, region := range topology.Regions {
		var standing regions.Standing
		if len(region.TURN) > 0 {
			standing = r.standing(region.Name)
		}
		for _, t := range region.TURN {
			away := t.Node != "" && slices.ContainsFunc(standing.Nodes, func(n regions.NodeStanding) bool { return n.Node.ID == t.Node && n.State != regions.NodeUp })
			servers = append(servers, cred.Server{Region: string(region.Name), URLs: t.URLs, Draining: away})
		}
	}
	return cred.Ordered(servers, nearest(topology, r.region))
}

// nearest are the regions by how far they are from one.
func nearest(t *regions.Topology, from regions.RegionID) []string {
	home, _ := t.Region(from)
	at := func(r regions.Region) geo.Point { return geo.Point{Lat: r.Location.Lat, Lng: r.Location.Lng} }
	all := slices.Clone(t.Regions)
	slices.SortStableFunc(all, func(a, b regions.Region) int {
		switch x, y := geo.Distance(at(home), at(a)), geo.Distance(at(home), at(b)); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	names := make([]string, len(all))
	for i, r := range all {
		names[i] = string(r.Name)
	}
	return names
}

// ICEServers are those of a user, with credentials (GET /api/v1/turn).
func (r *relays) ICEServers(user string) []cred.ICEServer {
	return r.secrets.ICEServers(r.list(), user, time.Now(), turnTTL)
}

// wire is the same for who joins a call.
func (r *relays) wire(user string) (list []*wire.CallIceServer) {
	for _, s := range r.ICEServers(user) {
		list = append(list, &wire.CallIceServer{Urls: s.URLs, Username: s.Username, Credential: s.Credential})
	}
	return list
}
