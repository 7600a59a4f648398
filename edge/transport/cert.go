package transport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"time"
)

// MaxSelfSigned is how long a browser accepts a certificate that a page names
// by its hash (W3C WebTransport, serverCertificateHashes).
const MaxSelfSigned = 14 * 24 * time.Hour

// SelfSigned makes a certificate for development: ECDSA P-256, valid at most
// MaxSelfSigned, which browsers accept through serverCertificateHashes with the
// SHA-256 of its DER. hosts are names and IP addresses.
func SelfSigned(hosts []string, validity time.Duration) (cert tls.Certificate, hash [32]byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return cert, hash, fmt.Errorf("self-signed certificate: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return cert, hash, fmt.Errorf("self-signed certificate: %w", err)
	}
	// A minute back for clocks that differ; it counts against the 14 days.
	from := time.Now().Add(-time.Minute)
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "muster development"},
		NotBefore:    from,
		NotAfter:     from.Add(min(validity, MaxSelfSigned)),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return cert, hash, fmt.Errorf("self-signed certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return cert, hash, fmt.Errorf("self-signed certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, sha256.Sum256(der), nil
}
