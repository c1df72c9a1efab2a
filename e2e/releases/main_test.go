// Package releases tests releases of charms with their resources.
package releases

import (
	"os"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
