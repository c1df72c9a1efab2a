// Peak runs a program and writes the most memory that it had, in kilobytes, to a file:
//
//	peak FILE PROGRAM [ARGUMENT...]
//
// The system counts for a process what its parent had when it was started, so a process as small as this one starts
// what is measured.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

func main() {
	command := exec.Command(os.Args[2], os.Args[3:]...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fail(err)
	}
	usage, _ := command.ProcessState.SysUsage().(*syscall.Rusage)
	if err := os.WriteFile(os.Args[1], fmt.Append(nil, usage.Maxrss), 0o600); err != nil {
		fail(err)
	}
	os.Exit(command.ProcessState.ExitCode())
}

// fail prints the error and exits with 127, as a shell does when a command is missing.
func fail(err error) {
	fmt.Fprintln(os.Stderr, "peak:", err)
	os.Exit(127)
}
