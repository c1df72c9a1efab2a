package compression

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/containers/image/v5/pkg/compression"

	"github.com/charmhub-actions/upload-resource/pkg/parallel"
)

// openXz decompresses xz. The decompressor allocates what each block asks
// for, up to 4 GiB, so it gets a block only after its header was checked.
func openXz(r io.Reader, decompressor compression.DecompressorFunc) (io.ReadCloser, error) {
	checked, out := io.Pipe()
	go func() {
		_ = out.CloseWithError(parallel.Guard(func() error { return copyXz(out, bufio.NewReader(r)) }))
	}()
	content, err := decompressor(bufio.NewReader(checked))
	if err != nil {
		return nil, errors.Join(err, checked.Close())
	}
	return xzReader{content, checked}, nil
}

// xzReader ends the copying when it is closed.
type xzReader struct {
	io.Reader
	io.Closer
}

// copyXz copies xz streams as long as no block of them asks for more memory than
// maxWindow. What it can't follow it doesn't copy. The numbers are those of the
// .xz file format, version 1.2.1, sections 2 to 4, and of LZMA2's chunks.
func copyXz(out io.Writer, in *bufio.Reader) error {
	x := xzCopy{in: in, out: out}
	for x.err == nil {
		start, err := in.Peek(4)
		if len(start) == 0 {
			return err // io.EOF at the end
		}
		if string(start) == "\x00\x00\x00\x00" { // padding between streams
			x.pass(4)
			continue
		}
		header := x.peek(12)
		if x.err != nil {
			return x.err
		}
		checkSize := [16]int64{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}[header[7]&0xf]
		x.pass(12)
		for x.peek(1)[0] != 0 {
			x.block(checkSize)
		}
		x.index()
		x.pass(12) // the footer
	}
	return x.err
}

// xzCopy copies a stream. After an error its methods do nothing.
type xzCopy struct {
	in  *bufio.Reader
	out io.Writer
	err error
}

// peek returns the next bytes, which aren't copied yet, or zeros after an error.
func (x *xzCopy) peek(n int) []byte {
	if x.err == nil {
		var next []byte
		if next, x.err = x.in.Peek(n); x.err == nil {
			return next
		}
		x.fail(x.err)
	}
	return make([]byte, n)
}

func (x *xzCopy) pass(n int64) {
	if x.err == nil {
		_, err := io.CopyN(x.out, x.in, n)
		x.fail(err)
	}
}

func (x *xzCopy) fail(err error) {
	if x.err = err; errors.Is(err, io.EOF) {
		x.err = io.ErrUnexpectedEOF
	}
}

// block copies a block: its header, its chunks, padding and the check.
func (x *xzCopy) block(checkSize int64) {
	size := (int(x.peek(1)[0]) + 1) * 4
	header := x.peek(size)
	if x.err == nil {
		x.err = checkXzBlock(header)
	}
	x.pass(int64(size))
	var compressed int64
	for x.err == nil {
		n := x.chunk()
		x.pass(n)
		if compressed += n; n == 1 {
			break
		}
	}
	x.pass(-compressed&3 + checkSize)
}

// chunk returns the size of the next chunk, which is 1 for what ends a block.
func (x *xzCopy) chunk() int64 {
	switch control := x.peek(1)[0]; {
	case control == 0:
		return 1
	case control <= 2: // not compressed
		return 3 + 1 + int64(binary.BigEndian.Uint16(x.peek(3)[1:]))
	case control < 0x80:
		x.err = errXz
		return 0
	case control < 0xc0:
		return 5 + 1 + int64(binary.BigEndian.Uint16(x.peek(5)[3:]))
	default: // with a byte of properties
		return 6 + 1 + int64(binary.BigEndian.Uint16(x.peek(5)[3:]))
	}
}

// index copies the list of blocks after them.
func (x *xzCopy) index() {
	x.pass(1)
	size := int64(1)
	number := func() (value uint64) {
		for shift := 0; x.err == nil; shift += 7 {
			next := x.peek(1)[0]
			x.pass(1)
			size++
			if shift > 56 {
				x.err = errXz
			}
			if value |= uint64(next&0x7f) << shift; next < 0x80 {
				break
			}
		}
		return value
	}
	for records := number(); records > 0 && x.err == nil; records-- {
		number()
		number()
	}
	x.pass(-size&3 + 4)
}

var errXz = errors.New("the content is damaged, or not as xz writes it")

// checkXzBlock returns an error for a block whose header asks for too large a window, or
// for other filters than LZMA2 alone.
func checkXzBlock(header []byte) error {
	flags, rest := header[1], header[2:]
	numbers := []uint64{0, 0} // of the filter: its ID, the size of its properties
	if flags&0x40 != 0 {
		numbers = append(numbers, 0) // before them, the block's compressed size
	}
	if flags&0x80 != 0 {
		numbers = append(numbers, 0) // and the other one
	}
	for i := range numbers {
		value, n := binary.Uvarint(rest)
		if n <= 0 {
			return errXz
		}
		numbers[i], rest = value, rest[n:]
	}
	filter := numbers[len(numbers)-2:]
	if flags&3 != 0 || filter[0] != 0x21 || filter[1] != 1 || len(rest) == 0 {
		return fmt.Errorf("the content uses a filter of xz that isn't supported: %w; compress it with xz's own settings", errXz)
	}
	bits := uint(rest[0])
	if bits > 40 {
		return errXz
	}
	if window := uint64(2|bits&1) << (bits/2 + 11); window > maxWindow {
		return fmt.Errorf("the content asks for %d bytes of memory, where %d are allowed; compress it with xz -9 or less", window, maxWindow)
	}
	return nil
}
