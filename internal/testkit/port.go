package testkit

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// ReservePort returns an address on loopback, host:port, at which connections are refused for the rest of the test. No
// other process gets the port meanwhile, as it could if a listener were opened and closed. A server that listens with
// SO_REUSEPORT may take the address.
func ReservePort(tb testing.TB) string {
	tb.Helper()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = unix.Close(socket) })
	if err := unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		tb.Fatal(err)
	}
	if err := unix.Bind(socket, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		tb.Fatal(err)
	}
	at, err := unix.Getsockname(socket)
	if err != nil {
		tb.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", at.(*unix.SockaddrInet4).Port) //nolint:forcetypeassert // it was bound as that
}
