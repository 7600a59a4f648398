package main

import (
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/mustermesh/muster/regions"
	"github.com/mustermesh/muster/regions/peerlink"
)

// CACmd makes the certificates by which nodes know each other.
type CACmd struct {
	Dir      string           `help:"Where the authority is kept; it is made there the first time. Keep ca.key off the nodes." default:"ca" type:"path" placeholder:"DIR"`
	Out      string           `help:"Where the nodes' certificates go." default:"identities" type:"path" placeholder:"DIR"`
	Topology string           `help:"Make one for every node of this topology." type:"existingfile" placeholder:"FILE"`
	Region   regions.RegionID `help:"The region of the nodes that are named." placeholder:"NAME"`
	Nodes    []regions.NodeID `arg:"" optional:"" name:"node" help:"Make certificates for these."`
}

// Run makes what is asked for, and says where it is.
func (c *CACmd) Run(log *slog.Logger) error {
	list, err := c.nodes()
	if err != nil {
		return err
	}
	authority, err := peerlink.OpenAuthority(c.Dir)
	if err != nil {
		return err
	}
	for _, r := range list {
		for _, n := range r.Nodes {
			cert, err := authority.Issue(r.Name, n.ID)
			if err != nil {
				return err
			}
			// Each node gets a directory of its own: all it needs, nothing else.
			dir := filepath.Join(c.Out, string(n.ID))
			if err := authority.WriteIdentity(dir, n.ID, cert); err != nil {
				return err
			}
			log.Info("certificate made", "identity", fmt.Sprintf("muster://%s/%s", r.Name, n.ID), "dir", dir, "expires", cert.Leaf.NotAfter)
		}
	}
	return nil
}

func (c *CACmd) nodes() ([]regions.Region, error) {
	switch {
	case c.Topology != "" && len(c.Nodes) == 0:
		t, err := regions.LoadTopology(c.Topology)
		if err != nil {
			return nil, err
		}
		return t.Regions, nil
	case c.Topology == "" && len(c.Nodes) > 0 && c.Region != "":
		r := regions.Region{Name: c.Region}
		for _, id := range c.Nodes {
			r.Nodes = append(r.Nodes, regions.Node{ID: id})
		}
		return []regions.Region{r}, nil
	default:
		return nil, fmt.Errorf("say for whom: either --topology FILE, or --region NAME and nodes")
	}
}
