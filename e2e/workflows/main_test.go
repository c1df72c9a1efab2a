// Package workflows tests the action in workflows, in containers and from a
// command line, and the workflows that test and release it.
package workflows

import (
	"os"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
