package reserve

import (
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
func (s *S3) Get(ctx context.Context, name string, from, n int64) (io.ReadCloser, time.Time, error) {
	var o minio.GetObjectOptions
	if n >= 0 {
		if err := o.SetRange(from, from+n-1); err != nil {
			return nil, time.Time{}, err
		}
	}
	body, info, _, err := s.core.GetObject(ctx, s.bucket, s.prefix+name, o)
	if err != nil {
		switch minio.ToErrorResponse(err).StatusCode {
		case http.StatusNotFound:
			return nil, time.Time{}, ErrNone
		case http.StatusRequestedRangeNotSatisfiable: // it ends before
			return io.NopCloser(strings.NewReader("")), time.Time{}, nil
		}
		return nil, time.Time{}, err
	}
	return body, info.LastModified, nil
}

// partBytes is how large the parts of a large object are: 10,000 at most, so
// that MaxBody fits.
const partBytes = 16 << 20

// Put implements Store. A large object goes in parts, and is seen when the last one
// is there.
func (s *S3) Put(ctx context.Context, name string, body io.Reader, size int64) error {
	o := minio.PutObjectOptions{ContentType: "application/octet-stream"}
	if size <= partBytes {
		_, err := s.core.PutObject(ctx, s.bucket, s.prefix+name, body, size, "", "", o)
		return err
	}
	if f, ok := body.(io.ReaderAt); ok {
		body = io.NewSectionReader(f, 0, size) // parts are read where they are
	}
	o.PartSize, o.NumThreads = partBytes, 2
	_, err := s.core.Client.PutObject(ctx, s.bucket, s.prefix+name, body, size, o)
	return err
}

// Delete implements Store.
func (s *S3) Delete(ctx context.Context, name string) error {
	return s.core.RemoveObject(ctx, s.bucket, s.prefix+name, minio.RemoveObjectOptions{})
}

// maxCopy is what S3 copies at once, in bytes.
const maxCopy = 5 << 30

// Use implements Store: the object is copied onto itself, so that a rule of the
// bucket's own counts from now on too; where the store takes that for nothing, it is
// written again. One over 5 GiB stays as old as it is.
func (s *S3) Use(ctx context.Context, name string) error {
	err := s.use(ctx, s.prefix+name)
	switch minio.ToErrorResponse(err).StatusCode {
	case http.StatusNotFound, http.StatusPreconditionFailed: // deleted, or new
		return nil
	}
	return err
}

func (s *S3) use(ctx context.Context, name string) error {
	before, err := s.core.StatObject(ctx, s.bucket, name, minio.StatObjectOptions{})
	if err != nil || before.Size > maxCopy {
		return err
	}
	_, err = s.core.Client.CopyObject(ctx,
		minio.CopyDestOptions{Bucket: s.bucket, Object: name, ReplaceMetadata: true, UserMetadata: map[string]string{"used": time.Now().UTC().Format(time.RFC3339)}},
		minio.CopySrcOptions{Bucket: s.bucket, Object: name, MatchETag: before.ETag})
	if err != nil {
		return err
	}
	after, err := s.core.StatObject(ctx, s.bucket, name, minio.StatObjectOptions{})
	if err != nil || after.LastModified.After(before.LastModified) {
		return err
	}
	var o minio.GetObjectOptions
	if err := o.SetMatchETag(after.ETag); err != nil {
		return err
	}
	body, _, _, err := s.core.GetObject(ctx, s.bucket, name, o)
	if err != nil {
		return err
	}
	_, err = s.core.Client.PutObject(ctx, s.bucket, name, body, after.Size, minio.PutObjectOptions{
		ContentType: "application/octet-stream", PartSize: partBytes, NumThreads: 1,
	})
	return errors.Join(err, body.Close())
}

// List implements Store.
func (s *S3) List(ctx context.Context, prefix string, each func(string, int64, time.Time) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the listing
	for o := range s.core.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true}) {
		if o.Err != nil {
			return o.Err
		}
		if err := each(strings.TrimPrefix(o.Key, s.prefix), o.Size, o.LastModified); err != nil {
			return err
		}
	}
	return nil
}

// Tops implements Store.
func (s *S3) Tops(ctx context.Context) ([]string, error) {
	var tops []string
	for o := range s.core.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix}) {
		if o.Err != nil {
			return nil, o.Err
		}
		if top, ok := strings.CutSuffix(strings.TrimPrefix(o.Key, s.prefix), "/"); ok {
			tops = append(tops, top)
		}
	}
	return tops, nil
}
