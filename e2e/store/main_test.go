// Package store tests what is asked of Charmhub's store: files, tokens,
// revisions, refusals and outages.
package store

import (
	"os"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
