// Package uploads tests uploads of images: what is sent, found, skipped
// and recorded, and what happens when a connection or a registry fails.
package uploads

import (
	"os"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
