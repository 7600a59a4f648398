package s3

import (
	"context"
	"fmt"
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

	"github.com/mustermesh/muster/core/objects"
	"github.com/mustermesh/muster/core/objects/objectstest"
)

const access, secret, bucket = "muster", "muster-secret", "objects"

// serve runs a real S3 server, versitygw on a directory, until the test ends, and
// returns its URL. The first test of a machine waits until it is built.
func serve(t *testing.T) string {
	dir := t.TempDir()
	binary := filepath.Join(dir, "versitygw")
	build, cancel := context.WithTimeout(t.Context(), 9*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(build, "go", "-C", "../../../tools/versitygw", "build", "-o", binary, "github.com/versity/versitygw/cmd/versitygw").CombinedOutput()
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
	url := "http://" + addr
	require.Eventually(t, func() bool {
		resp, err := http.Get(url)
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	}, time.Minute, 50*time.Millisecond)
	t.Setenv("AWS_ACCESS_KEY_ID", access)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	return url
}

func makeBucket(t *testing.T, endpoint string) {
	client, err := minio.New(endpoint[len("http://"):], &minio.Options{Creds: credentials.NewStaticV4(access, secret, "")})
	require.NoError(t, err)
	require.NoError(t, client.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{}))
}

func TestStore(t *testing.T) {
	endpoint := serve(t)
	at := func(path string) string {
		return fmt.Sprintf("s3://%s%s?endpoint=%s&region=us-east-1", bucket, path, endpoint)
	}
	_, err := Open(t.Context(), at(""))
	require.ErrorContains(t, err, `there is no bucket "objects"`)
	makeBucket(t, endpoint)

	whole, err := Open(t.Context(), at(""))
	require.NoError(t, err)
	objectstest.Run(t, whole)
	part, err := Open(t.Context(), at("/some/prefix/"))
	require.NoError(t, err)
	t.Run("under a prefix", func(t *testing.T) { objectstest.Run(t, part) })

	t.Run("parts go with their key", func(t *testing.T) {
		const name = "some/prefix/test/killed"
		id, err := part.client.NewMultipartUpload(t.Context(), bucket, name, minio.PutObjectOptions{})
		require.NoError(t, err)
		_, err = part.client.PutObjectPart(t.Context(), bucket, name, id, 1, strings.NewReader("secret"), 6, minio.PutObjectPartOptions{})
		require.NoError(t, err)
		uploads := func() (n int) {
			for u := range part.client.ListIncompleteUploads(t.Context(), bucket, name, true) {
				require.NoError(t, u.Err)
				n++
			}
			return n
		}
		require.Equal(t, 1, uploads())
		require.NoError(t, part.Delete(t.Context(), "test/killed"))
		require.Zero(t, uploads())
	})

	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	_, err = Open(t.Context(), at(""))
	require.Error(t, err)
	require.NotContains(t, err.Error(), "wrong")
	require.NotErrorIs(t, err, objects.ErrNotFound)
}

func TestLocations(t *testing.T) {
	for _, bad := range []string{"", "http://x", "s3://", "s3:bucket", "s3://key:secret@bucket", "s3://b?acl=public", "s3://b?endpoint=ftp://x", "s3://b?endpoint=x"} {
		_, err := Open(t.Context(), bad)
		require.ErrorContains(t, err, "objects: ", bad)
	}
}
