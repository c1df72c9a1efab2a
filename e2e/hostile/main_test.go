// Package hostile tests what the program does with input that was made to
// harm: archives, manifests, records, servers and workspaces.
package hostile

import (
	"os"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
