package peerlink

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/mustermesh/muster/regions"
)

// identityURI is the one URI name that a node's certificate carries:
// muster://<region>/<node>.
func identityURI(region regions.RegionID, node regions.NodeID) []*url.URL {
	return []*url.URL{{Scheme: "muster", Host: string(region), Path: "/" + string(node)}}
}

// identityOf reads whom a certificate names. Trust is the caller's business.
func identityOf(cert *x509.Certificate) (regions.RegionID, regions.NodeID, error) {
	if len(cert.URIs) != 1 || cert.URIs[0].Scheme != "muster" {
		return "", "", errors.New("peerlink: certificate has no muster:// identity")
	}
	region, node := cert.URIs[0].Host, strings.TrimPrefix(cert.URIs[0].Path, "/")
	if !regions.ValidName(region) || !regions.ValidName(node) {
		return "", "", fmt.Errorf("peerlink: certificate names %q, not a node", cert.URIs[0])
	}
	return regions.RegionID(region), regions.NodeID(node), nil
}

// tlsBase is what both directions share. Resumption is off: it would save one
// signature per redial and cost a second path through verification.
func tlsBase(identity tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{identity},
		SessionTicketsDisabled: true,
	}
}

// serverTLS accepts any node of the mesh; who it is, the hello is held
// against.
func serverTLS(identity tls.Certificate, ca *x509.CertPool) *tls.Config {
	cfg := tlsBase(identity)
	cfg.ClientAuth = tls.RequireAndVerifyClientCert
	cfg.ClientCAs = ca
	cfg.NextProtos = alpns[:]
	cfg.VerifyConnection = func(s tls.ConnectionState) error {
		_, _, err := identityOf(s.PeerCertificates[0])
		return err
	}
	return cfg
}

// clientTLS accepts only the node that we mean to dial.
func clientTLS(identity tls.Certificate, ca *x509.CertPool, class class, region regions.RegionID, node regions.NodeID) *tls.Config {
	cfg := tlsBase(identity)
	cfg.NextProtos = []string{class.alpn()}
	// crypto/tls can only match DNS names and IP addresses, of which our
	// certificates have none: a node is who it is wherever it runs. So its
	// verification is replaced, not dropped.
	cfg.InsecureSkipVerify = true
	cfg.VerifyConnection = func(s tls.ConnectionState) error {
		rest := x509.NewCertPool()
		for _, c := range s.PeerCertificates[1:] {
			rest.AddCert(c)
		}
		if _, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{
			Roots:         ca,
			Intermediates: rest,
			KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}); err != nil {
			return fmt.Errorf("peerlink: %w", err)
		}
		gotRegion, gotNode, err := identityOf(s.PeerCertificates[0])
		if err != nil {
			return err
		}
		if gotRegion != region || gotNode != node {
			return fmt.Errorf("peerlink: dialled %s/%s, met %s/%s", region, node, gotRegion, gotNode)
		}
		return nil
	}
	return cfg
}
