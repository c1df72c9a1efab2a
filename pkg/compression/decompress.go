// Package compression reads compressed streams that can't be trusted: gzip, zstd,
// xz and bzip2, recognised by their content. It bounds the memory that they take,
// and how far they expand.
package compression

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/containers/image/v5/pkg/compression"
	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
)

// What decompresses to more than freeGrowth bytes and to more than maxGrowth
// times its size is no image: real layers shrink to a half or a third, and
// the emptiest to a few hundredths.
const (
	freeGrowth = 4 << 30
	maxGrowth  = 100
)

// maxWindow bounds the memory that a stream may ask for to be decompressed;
// `zstd -19` needs 8 MiB, `xz -9` needs 64 MiB.
const maxWindow = 64 << 20

// ErrWindow is for a zstd stream with a larger window, as `zstd --long=27` writes it.
var ErrWindow = fmt.Errorf("%w: decompressing it takes more than %d MiB of memory; compress it again without --long",
	zstd.ErrWindowSizeExceeded, maxWindow>>20)

var errBomb = errors.New("the content decompresses to more than 100 times its size: a decompression bomb, and no image")

// Decompress returns the content of r, decompressed if it is compressed, and
// reports whether it is. A tar archive isn't, even if the name of its first file
// begins as a compressed stream does. Reading fails once the content has more than
// 4 GiB and more than 100 times the bytes of r, and with [ErrWindow].
func Decompress(r io.Reader) (io.ReadCloser, bool, error) {
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
	in := &meter{Reader: rest}
	var out io.ReadCloser
	switch format.Name() {
	case compression.Gzip.Name():
		out, err = pgzip.NewReader(in)
	case compression.Zstd.Name():
		var decoder *zstd.Decoder
		if decoder, err = zstd.NewReader(in, zstd.WithDecoderMaxWindow(maxWindow)); err == nil {
			out = decoder.IOReadCloser()
		}
	case compression.Xz.Name():
		out, err = openXz(in, opened)
	default:
		out, err = opened(in)
	}
	if err != nil {
		return nil, true, fmt.Errorf("cannot decompress the content from %s: %w", strings.ToLower(format.Name()), err)
	}
	return &expansion{ReadCloser: out, in: in, free: freeGrowth}, true, nil
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

// expansion is a decompressed stream that fails when it grows out of
// proportion.
type expansion struct {
	io.ReadCloser
	in   *meter
	out  int64
	free int64
}

func (e *expansion) Read(p []byte) (int, error) {
	n, err := e.ReadCloser.Read(p)
	e.out += int64(n)
	if errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return n, ErrWindow
	}
	if e.out > e.free && e.out/maxGrowth > e.in.n.Load() {
		return n, errBomb
	}
	return n, err
}

// meter counts what is read through it. Decompressors read from goroutines of
// their own.
type meter struct {
	io.Reader
	n atomic.Int64
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	m.n.Add(int64(n))
	return n, err
}
