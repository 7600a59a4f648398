package node

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"time"

	"github.com/mustermesh/muster/edge/transport"
)

// WriteSelfSigned makes a certificate for hosts and writes it and its key as PEM
// files, for processes that are started to be tested or measured. It returns who
// trusts it.
func WriteSelfSigned(certFile, keyFile string, validity time.Duration, hosts ...string) (*x509.CertPool, error) {
	cert, _, err := transport.SelfSigned(hosts, validity)
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return nil, err
	}
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: cert.Certificate[0]}, keyFile: {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			return nil, err
		}
	}
	trusted := x509.NewCertPool()
	trusted.AddCert(cert.Leaf)
	return trusted, nil
}
