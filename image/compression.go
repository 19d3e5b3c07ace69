package image

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"io"

	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/ulikunitz/xz"
)

var (
	gzipMagic  = []byte{0x1f, 0x8b}
	zstdMagic  = []byte{0x28, 0xb5, 0x2f, 0xfd}
	xzMagic    = []byte{0xfd, '7', 'z', 'X', 'Z', 0}
	bzip2Magic = []byte("BZh")
)

// decompress returns the content of r, which may be compressed in any way that
// docker load and docker import take.
func decompress(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 1<<20)
	head, err := buffered.Peek(len(xzMagic))
	if err != nil && len(head) == 0 {
		return io.NopCloser(buffered), nil // empty: the reader of the archive says so
	}
	switch {
	case bytes.HasPrefix(head, gzipMagic), bytes.HasPrefix(head, zstdMagic):
		stream, err := compression.DecompressStream(buffered)
		if err != nil {
			return nil, invalidArchive(err)
		}
		return stream, nil
	case bytes.HasPrefix(head, xzMagic):
		stream, err := xz.NewReader(buffered)
		if err != nil {
			return nil, invalidArchive(err)
		}
		return io.NopCloser(stream), nil
	case bytes.HasPrefix(head, bzip2Magic):
		return io.NopCloser(bzip2.NewReader(buffered)), nil
	default:
		return io.NopCloser(buffered), nil
	}
}
