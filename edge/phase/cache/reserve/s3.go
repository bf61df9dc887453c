package reserve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// S3 is a Store in a bucket.
type S3 struct {
	core   *minio.Core
	bucket string
	prefix string
}

// OpenS3 returns the bucket that a URL names: https://host[:port]/bucket[/prefix],
// or http for a store on the own network. Nothing is asked of it yet.
func OpenS3(where, key, secret string) (*S3, error) {
	u, err := url.Parse(where)
	if err != nil {
		return nil, err
	}
	bucket, prefix, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
	if u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || bucket == "" || u.User != nil || u.RawQuery != "" {
		return nil, fmt.Errorf("%q: https://host/bucket or http://host/bucket is needed", where)
	}
	if key == "" || secret == "" {
		return nil, errors.New("an access key and its secret are needed")
	}
	core, err := minio.NewCore(u.Host, &minio.Options{
		Creds: credentials.NewStaticV4(key, secret, ""), Secure: u.Scheme == "https",
		BucketLookup: minio.BucketLookupPath, Region: "us-east-1", MaxRetries: 1,
	})
	if err != nil {
		return nil, err
	}
	if prefix != "" {
		prefix += "/"
	}
	return &S3{core: core, bucket: bucket, prefix: prefix}, nil
}

// Get implements Store.
func (s *S3) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	body, _, _, err := s.core.GetObject(ctx, s.bucket, s.prefix+name, minio.GetObjectOptions{})
	if err != nil {
		if minio.ToErrorResponse(err).StatusCode == http.StatusNotFound {
			return nil, ErrNone
		}
		return nil, err
	}
	return body, nil
}

// Put implements Store.
func (s *S3) Put(ctx context.Context, name string, body io.Reader, size int64) error {
	_, err := s.core.PutObject(ctx, s.bucket, s.prefix+name, body, size, "", "", minio.PutObjectOptions{
		ContentType: "application/octet-stream",
	})
	return err
}

// Delete implements Store.
func (s *S3) Delete(ctx context.Context, name string) error {
	return s.core.RemoveObject(ctx, s.bucket, s.prefix+name, minio.RemoveObjectOptions{})
}
