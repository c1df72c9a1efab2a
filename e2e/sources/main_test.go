// Package sources tests where images come from: container engines,
// registries, archives, layouts, and what other people's tools write to them.
package sources

import (
	"os"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
