package layercheck

import "bytes"

// Compressions of layers, as they are called in messages.
const (
	Gzip = "gzip"
	Zstd = "zstd"
)

const (
	gzipMagic = "\x1f\x8b"         // gzip's format begins with it (RFC 1952, section 2.3.1)
	zstdMagic = "\x28\xb5\x2f\xfd" // zstd's format begins with it (RFC 8878, section 3.1.1)
)

// MagicSize is the number of bytes at a blob's start that show its compression.
const MagicSize = len(zstdMagic)

// CompressionOf returns the compression of a blob that begins with start: Gzip, Zstd, or "" for any other.
func CompressionOf(start []byte) string {
	switch {
	case bytes.HasPrefix(start, []byte(gzipMagic)):
		return Gzip
	case bytes.HasPrefix(start, []byte(zstdMagic)):
		return Zstd
	}
	return ""
}
