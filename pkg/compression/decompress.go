// Package compression reads compressed streams that can't be trusted: gzip, zstd,
// xz and bzip2, recognised by their content. It bounds the memory that they take,
// and how far they expand.
package compression

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/containers/image/v5/pkg/compression"
	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
)

// ErrWindow is for a zstd stream with a larger window, as `zstd --long=27` writes it.
var ErrWindow = fmt.Errorf("%w: decompressing it takes more than %d MiB of memory; compress it again without --long",
	zstd.ErrWindowSizeExceeded, maxWindow>>20)

// Decompress returns the content of r, decompressed if it is compressed, and
// reports whether it is. A tar archive isn't, even if the name of its first file
// begins as a compressed stream does. It waits while other streams leave too little
// memory, until they are closed. Reading fails with [ErrWindow], and once the content
// of the streams that are read within b has more than 4 GiB and more than 100 times
// their bytes.
func (b *Bounds) Decompress(r io.Reader) (io.ReadCloser, bool, error) {
	buffered := bufio.NewReaderSize(r, tarBlock)
	start, err := buffered.Peek(tarBlock)
	if err == nil && isTarHeader(start) {
		return io.NopCloser(buffered), false, nil
	}
	format, opened, rest, err := compression.DetectCompressionFormat(buffered)
	if err != nil {
		return nil, false, fmt.Errorf("cannot read the content: %w", err)
	}
	if opened == nil {
		return io.NopCloser(rest), false, nil
	}
	out, err := b.open(format.Name(), opened, meter{rest, b})
	if err != nil {
		return nil, true, fmt.Errorf("cannot decompress the content from %s: %w", strings.ToLower(format.Name()), err)
	}
	return expansion{out, b}, true, nil
}

// A gzip stream is decompressed this far ahead of its reader. That is little enough
// to be done without a reservation.
const (
	gzipBlock  = 256 << 10
	gzipBlocks = 4
)

// open opens a stream of that format.
func (b *Bounds) open(format string, opened compression.DecompressorFunc, in io.Reader) (out io.ReadCloser, err error) {
	switch format {
	case compression.Gzip.Name():
		return pgzip.NewReaderN(in, gzipBlock, gzipBlocks)
	case compression.Zstd.Name():
		buffered := bufio.NewReader(in)
		window := zstdWindow(buffered) // later frames must not ask for more
		return b.reserve(window, func() (io.ReadCloser, error) {
			decoder, err := zstd.NewReader(buffered, zstd.WithDecoderMaxWindow(uint64(window)))
			if err != nil {
				return nil, err
			}
			return decoder.IOReadCloser(), nil
		})
	case compression.Xz.Name():
		return b.reserve(maxWindow, func() (io.ReadCloser, error) { return openXz(in, opened) })
	default:
		return opened(in)
	}
}

// leastWindow is what is reserved for a zstd stream whose first frame needs less:
// later frames may need more.
const leastWindow = 8 << 20

// zstdWindow returns how many bytes of memory the first frame of a stream asks for,
// between leastWindow and maxWindow.
func zstdWindow(in *bufio.Reader) int64 {
	start, _ := in.Peek(zstd.HeaderMaxSize) // fewer bytes may be all that there are
	var header zstd.Header
	if header.Decode(start) != nil {
		return leastWindow // reading fails
	}
	window := header.WindowSize
	if header.SingleSegment {
		window = header.FrameContentSize
	}
	return int64(min(max(window, leastWindow), maxWindow)) //nolint:gosec // it is small
}

// tarBlock is the size of a header in a tar archive.
const tarBlock = 512

// isTarHeader reports whether a block has the checksum of a tar header: the sum of
// its bytes, in octal digits, with blanks in the place of these digits (POSIX
// pax, ustar Interchange Format).
func isTarHeader(block []byte) bool {
	stated, err := strconv.ParseInt(strings.Trim(string(block[148:156]), " \x00"), 8, 64)
	sum := int64(8 * ' ')
	for i, b := range block {
		if i < 148 || i >= 156 {
			sum += int64(b)
		}
	}
	return err == nil && sum == stated
}
