package s3

import (
	"fmt"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/require"

	"github.com/mustermesh/muster/core/objects"
	"github.com/mustermesh/muster/core/objects/objectstest"
)

const bucket = "objects"

func TestStore(t *testing.T) {
	endpoint := objectstest.S3(t)
	at := func(path string) string {
		return fmt.Sprintf("s3://%s%s?endpoint=%s&region=us-east-1", bucket, path, endpoint)
	}
	_, err := Open(t.Context(), at(""))
	require.ErrorContains(t, err, `there is no bucket "objects"`)
	objectstest.MakeBucket(t, endpoint, bucket)

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
