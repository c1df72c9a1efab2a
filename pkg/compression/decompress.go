// Package compression decompresses untrusted gzip, zstd, xz and bzip2 streams. It recognises the format by the content,
// and limits the memory of the decoders and the size of the decompressed content.
//
// All formats but xz are decompressed by common libraries. For xz, the package uses a port of XZ Embedded, because it
// is given a limit on the memory that a stream may require; the usual library allocates what the stream asks for, up to
// 4 GiB.
package compression

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/containers/image/v5/pkg/compression"
	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
	"github.com/therootcompany/xz"
)

// ErrZstdWindow is the error for a zstd stream whose window exceeds the memory limit, such as one from `zstd
// --long=27`.
var ErrZstdWindow = fmt.Errorf("%w: decompressing it takes more than %d MiB of memory; "+
	"compress it again without --long",
	zstd.ErrWindowSizeExceeded, maxDecoderMemory>>20)

var errXzDictionary = fmt.Errorf("%w: decompressing it takes more than %d MiB of memory; "+
	"compress it with xz -9 or less",
	xz.ErrMemlimit, maxDecoderMemory>>20)

// Decompress returns the decompressed content of r, and whether r is compressed. Content that isn't compressed is
// returned unchanged. A tar archive counts as not compressed, even if its first file's name begins like a compressed
// stream.
//
// Decompress waits until enough memory is free, which other streams may hold until they are closed. Reading fails with
// [ErrZstdWindow] if a zstd stream needs too much memory. It also fails when the content of all streams that were
// opened with b is larger than 4 GiB and larger than 100 times their compressed size.
func (b *Bounds) Decompress(r io.Reader) (content io.ReadCloser, compressed bool, err error) {
	buffered := bufio.NewReaderSize(r, tarBlockSize)
	start, err := buffered.Peek(tarBlockSize)
	if err == nil && isTarHeader(start) {
		return io.NopCloser(buffered), false, nil
	}
	format, decompressor, rest, err := compression.DetectCompressionFormat(buffered)
	if err != nil {
		return nil, false, fmt.Errorf("cannot read the content: %w", err)
	}
	if decompressor == nil {
		return io.NopCloser(rest), false, nil
	}
	content, err = b.openDecoder(format.Name(), decompressor, compressedReader{rest, b})
	if err != nil {
		return nil, true, fmt.Errorf("cannot decompress the content from %s: %w", strings.ToLower(format.Name()),
			explainDecoder(err))
	}
	return boundedReader{content, b}, true, nil
}

// The gzip decoder reads ahead of its reader by at most gzipBlocks blocks of gzipBlockSize bytes. This needs so little
// memory that none is reserved.
const (
	gzipBlockSize = 128 << 10
	gzipBlocks    = 4
)

// openDecoder returns a decoder for a format, with memory reserved for it. It uses decompressor for formats that need
// no limit.
func (b *Bounds) openDecoder(
	format string, decompressor compression.DecompressorFunc, in io.Reader,
) (content io.ReadCloser, err error) {
	switch format {
	case compression.Gzip.Name():
		return pgzip.NewReaderN(in, gzipBlockSize, gzipBlocks)
	case compression.Zstd.Name():
		buffered := bufio.NewReader(in)
		window := zstdWindowSize(buffered) // also the limit for later frames
		return b.reserve(window, func() (io.ReadCloser, error) {
			decoder, err := zstd.NewReader(buffered, zstd.WithDecoderMaxWindow(uint64(window))) //nolint:gosec // it is positive
			if err != nil {
				return nil, err
			}
			return decoder.IOReadCloser(), nil
		})
	case compression.Xz.Name():
		return b.reserve(maxDecoderMemory, func() (io.ReadCloser, error) {
			decoder, err := xz.NewReader(in, maxDecoderMemory)
			return io.NopCloser(decoder), err
		})
	default:
		return decompressor(in)
	}
}

// explainDecoder adds advice to errors about the memory limit. It returns other errors unchanged.
func explainDecoder(err error) error {
	switch {
	case errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return ErrZstdWindow
	case errors.Is(err, xz.ErrMemlimit):
		return errXzDictionary
	default:
		return err
	}
}

// minZstdMemory is how many bytes are reserved for a zstd stream, even if its first frame needs less: later frames may
// need more.
const minZstdMemory = 8 << 20

// zstdWindowSize returns the memory in bytes that the first frame of a zstd stream needs, but at least minZstdMemory
// and at most maxDecoderMemory. It only peeks at the stream.
func zstdWindowSize(in *bufio.Reader) int64 {
	start, _ := in.Peek(zstd.HeaderMaxSize) // the stream may be shorter
	var header zstd.Header
	if header.Decode(start) != nil {
		return minZstdMemory // the decoder reports the error
	}
	window := header.WindowSize
	if header.SingleSegment {
		window = header.FrameContentSize
	}
	return int64(min(max(window, minZstdMemory), maxDecoderMemory))
}

// tarBlockSize is the size of a tar header in bytes.
const tarBlockSize = 512

// isTarHeader reports whether a block of tarBlockSize bytes has the checksum of a tar header (POSIX pax, ustar
// Interchange Format).
func isTarHeader(block []byte) bool {
	// The checksum is an octal number in bytes 148 to 155. It is the sum of all bytes, with blanks in place of itself.
	stated, err := strconv.ParseInt(strings.Trim(string(block[148:156]), " \x00"), 8, 64)
	sum := int64(8 * ' ')
	for i, b := range block {
		if i < 148 || i >= 156 {
			sum += int64(b)
		}
	}
	return err == nil && sum == stated
}
