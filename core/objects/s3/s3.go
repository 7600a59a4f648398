// Package s3 keeps objects in a bucket of Amazon S3 or of whatever speaks its
// protocol: MinIO, Ceph, Google Cloud Storage, versitygw, with which it is tested.
//
// The bucket is made by whoever runs the deployment, private; it needs no rules
// for age, since the Catalog deletes what is needed no more.
package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/mustermesh/muster/core/objects"
)

// Store is a bucket. It is safe for concurrent use.
type Store struct {
	client minio.Core // its lower calls, of which one is one request
	bucket string
	prefix string // of all keys, empty or ending in "/"
}

var _ objects.Store = (*Store)(nil)

// Open reads where the bucket is, and asks whether it is there:
//
//	s3://bucket/prefix?region=eu-west-1
//	s3://bucket?endpoint=http://127.0.0.1:7070
//
// Who may use it is told by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the
// environment, or by the machine's role.
func Open(ctx context.Context, location string) (*Store, error) {
	u, err := url.Parse(location)
	if err != nil || u.Scheme != "s3" || u.Host == "" || u.User != nil {
		return nil, errors.New("objects: write s3://bucket/prefix?endpoint=https://host&region=name")
	}
	for key := range u.Query() {
		if key != "endpoint" && key != "region" {
			return nil, fmt.Errorf("objects: %q is neither endpoint nor region", key)
		}
	}
	endpoint, err := url.Parse(cmp.Or(u.Query().Get("endpoint"), "https://s3.amazonaws.com"))
	if err != nil || endpoint.Host == "" || endpoint.Scheme != "https" && endpoint.Scheme != "http" {
		return nil, errors.New("objects: an endpoint is a URL such as https://s3.example.org")
	}
	transport, err := minio.DefaultTransport(endpoint.Scheme == "https")
	if err != nil {
		return nil, fmt.Errorf("objects: %w", err)
	}
	transport.ResponseHeaderTimeout = 15 * time.Second
	client, err := minio.New(endpoint.Host, &minio.Options{
		Creds: credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.IAM{Client: &http.Client{Timeout: 5 * time.Second}},
		}),
		Secure: endpoint.Scheme == "https", Region: u.Query().Get("region"), Transport: transport, MaxRetries: 4,
	})
	if err != nil {
		return nil, fmt.Errorf("objects: %w", err)
	}
	s := &Store{client: minio.Core{Client: client}, bucket: u.Host}
	if prefix := strings.Trim(u.Path, "/"); prefix != "" {
		if err := objects.CheckKey(prefix); err != nil {
			return nil, fmt.Errorf("objects: prefix %q: %w", prefix, err)
		}
		s.prefix = prefix + "/"
	}
	there, err := client.BucketExists(ctx, s.bucket)
	if err != nil {
		return nil, fmt.Errorf("objects: ask for the bucket %s: %w", s.bucket, err)
	}
	if !there {
		return nil, fmt.Errorf("objects: there is no bucket %q: make it, and keep it private", s.bucket)
	}
	return s, nil
}

// partSize is what of an object is in memory, and how much of it is sent again
// when a connection breaks. S3 wants at least 5 MiB.
const partSize = 5 << 20

// Put satisfies objects.Store.
func (s *Store) Put(ctx context.Context, key string, body io.Reader, size int64, contentType string) error {
	if err := objects.CheckKey(key); err != nil {
		return err
	}
	body = objects.Exactly(body, size)
	if size == 0 { // the client would not read at all
		if _, err := io.Copy(io.Discard, body); err != nil {
			return fmt.Errorf("put %s: %w", key, err)
		}
	}
	if _, err := s.client.Client.PutObject(ctx, s.bucket, s.prefix+key, body, size,
		minio.PutObjectOptions{ContentType: contentType, PartSize: partSize, NumThreads: 1}); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return nil
}

// Get satisfies objects.Store.
func (s *Store) Get(ctx context.Context, key string) (objects.Object, error) {
	if err := objects.CheckKey(key); err != nil {
		return objects.Object{}, err
	}
	body, info, _, err := s.client.GetObject(ctx, s.bucket, s.prefix+key, minio.GetObjectOptions{})
	if minio.ToErrorResponse(err).Code == minio.NoSuchKey {
		return objects.Object{}, objects.ErrNotFound
	}
	if err != nil {
		return objects.Object{}, fmt.Errorf("get %s: %w", key, err)
	}
	return objects.Object{Body: body, Size: info.Size, Type: info.ContentType}, nil
}

// Delete satisfies objects.Store. Parts that a Put left which was killed go, too: no
// list of objects shows them.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := objects.CheckKey(key); err != nil {
		return err
	}
	if err := s.client.RemoveIncompleteUpload(ctx, s.bucket, s.prefix+key); err != nil {
		return fmt.Errorf("delete parts of %s: %w", key, err)
	}
	if err := s.client.RemoveObject(ctx, s.bucket, s.prefix+key, minio.RemoveObjectOptions{}); err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}
