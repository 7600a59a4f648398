package peerlink

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/mustermesh/muster/regions"
)

// Names of the files that an Authority reads and writes. A node needs its own
// pair and caCertFile; caKeyFile stays where certificates are made.
const (
	caCertFile = "ca.pem"
	caKeyFile  = "ca.key"
)

// Lifetimes of certificates. A node's is renewed by making a new one with the
// same authority and restarting the node.
const (
	caLifetime   = 10 * 365 * 24 * time.Hour
	nodeLifetime = 365 * 24 * time.Hour
)

// Authority is the mesh's own certificate authority: whoever holds a
// certificate of it is a node of the mesh. ECDSA P-256 throughout.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes an authority with a fresh key.
func NewAuthority() (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Muster mesh CA"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(caLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	return &Authority{cert: cert, key: key}, nil
}

// OpenAuthority loads the authority of dir, or makes it there if dir has none.
func OpenAuthority(dir string) (*Authority, error) {
	a, err := LoadAuthority(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return a, err
	}
	// Half an authority is a mistake to report, not to overwrite.
	for _, name := range []string{caCertFile, caKeyFile} {
		if _, statErr := os.Stat(filepath.Join(dir, name)); statErr == nil {
			return nil, fmt.Errorf("%s holds only %s: %w", dir, name, err)
		}
	}
	if a, err = NewAuthority(); err != nil {
		return nil, err
	}
	return a, a.save(dir)
}

// LoadAuthority loads the authority of dir.
func LoadAuthority(dir string) (*Authority, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, caCertFile), filepath.Join(dir, caKeyFile))
	if err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("load CA: %s holds no ECDSA authority", dir)
	}
	return &Authority{cert: pair.Leaf, key: key}, nil
}

func (a *Authority) save(dir string) error {
	return writePair(filepath.Join(dir, caCertFile), filepath.Join(dir, caKeyFile), a.cert.Raw, a.key)
}

// Pool returns the pool that trusts this authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// Issue makes a node's certificate.
func (a *Authority) Issue(region regions.RegionID, node regions.NodeID) (tls.Certificate, error) {
	if !regions.ValidName(string(region)) || !regions.ValidName(string(node)) {
		return tls.Certificate{}, fmt.Errorf("issue certificate: %q/%q is not a region and a node", region, node)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("issue certificate: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: string(node)},
		URIs:        identityURI(region, node),
		NotBefore:   now.Add(-time.Hour), // clocks of nodes differ
		NotAfter:    now.Add(nodeLifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("issue certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("issue certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// WriteIdentity stores a node's certificate as dir/<node>.pem and .key, with
// the authority's certificate beside it: all that the node needs.
func (a *Authority) WriteIdentity(dir string, node regions.NodeID, cert tls.Certificate) error {
	key, ok := cert.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return errors.New("write identity: not an ECDSA key")
	}
	if err := writePair(filepath.Join(dir, string(node)+".pem"), filepath.Join(dir, string(node)+".key"), cert.Certificate[0], key); err != nil {
		return err
	}
	return writePEM(filepath.Join(dir, caCertFile), "CERTIFICATE", a.cert.Raw, 0o644)
}

// LoadIdentity loads a node's certificate and the authority it trusts, from
// the files that WriteIdentity or `muster ca` wrote.
func LoadIdentity(certFile, keyFile, caFile string) (tls.Certificate, *x509.CertPool, error) {
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("load identity: %w", err)
	}
	ca, err := os.ReadFile(caFile)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("load identity: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return tls.Certificate{}, nil, fmt.Errorf("load identity: %s holds no certificate", caFile)
	}
	return cert, pool, nil
}

func writePair(certFile, keyFile string, der []byte, key *ecdsa.PrivateKey) error {
	if err := os.MkdirAll(filepath.Dir(certFile), 0o700); err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	if err := writePEM(keyFile, "PRIVATE KEY", secret, 0o600); err != nil {
		return err
	}
	return writePEM(certFile, "CERTIFICATE", der, 0o644)
}

// writePEM replaces the file in one step, so that no reader sees half a key,
// and with the right mode even if the file was there with another.
func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write certificate: %w", err)
	}
	if err := os.WriteFile(tmp, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	return nil
}
