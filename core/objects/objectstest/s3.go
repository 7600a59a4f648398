package objectstest

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"
)

// Who may use the server of S3.
const access, secret = "muster", "muster-secret"

// S3 runs a real S3 server, versitygw on a directory, until the test ends, and
// returns its URL. Who may use it is in the environment. The first test of a machine
// waits until it is built.
func S3(t *testing.T) (endpoint string) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "versitygw")
	build, cancel := context.WithTimeout(t.Context(), 9*time.Minute)
	defer cancel()
	mod, err := exec.CommandContext(build, "go", "env", "GOMOD").Output()
	require.NoError(t, err)
	tool := filepath.Join(filepath.Dir(strings.TrimSpace(string(mod))), "tools", "versitygw")
	out, err := exec.CommandContext(build, "go", "-C", tool, "build", "-o", binary, "github.com/versity/versitygw/cmd/versitygw").CombinedOutput()
	require.NoError(t, err, "build versitygw: %s", out)

	data := filepath.Join(dir, "data")
	require.NoError(t, os.Mkdir(data, 0o700))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := listener.Addr().String()
	require.NoError(t, listener.Close())
	// No xattrs: not every file system of a test has them.
	server := exec.Command(binary, "--port", addr, "--access", access, "--secret", secret, "--quiet",
		"posix", "--sidecar", dir, data)
	require.NoError(t, server.Start())
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	endpoint = "http://" + addr
	require.Eventually(t, func() bool {
		resp, err := http.Get(endpoint)
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	}, time.Minute, 50*time.Millisecond)
	t.Setenv("AWS_ACCESS_KEY_ID", access)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	return endpoint
}

// MakeBucket makes a bucket there.
func MakeBucket(t *testing.T, endpoint, bucket string) {
	client, err := minio.New(strings.TrimPrefix(endpoint, "http://"), &minio.Options{Creds: credentials.NewStaticV4(access, secret, "")})
	require.NoError(t, err)
	require.NoError(t, client.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{}))
}
