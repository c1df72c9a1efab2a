package harness

import (
	"cmp"
	"os"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// The charm that the sandbox of most tests has.
const (
	Charm         = "my-charm"
	ImageResource = "my-image"
	FileResource  = "my-file"
)

// StartSandbox starts a Charmhub with the charm above, for the length of a
// test. UPLOAD_RESOURCE_E2E_REGISTRY names a distribution binary to run for the
// tests that ask for none.
func StartSandbox(t *testing.T, options server.Options) *server.Server {
	t.Helper()
	if options.Charms == nil {
		options.Charms = []server.Charm{{Name: Charm, Resources: []server.Resource{
			{Name: ImageResource, Type: server.TypeImage}, {Name: FileResource, Type: server.TypeFile},
		}}}
	}
	options.Registry = cmp.Or(options.Registry, os.Getenv("UPLOAD_RESOURCE_E2E_REGISTRY"))
	sandbox, err := server.Start(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sandbox.Close(); err != nil {
			t.Error(err)
		}
	})
	return sandbox
}

// EachRegistry runs a test against each of the registries that images are
// pushed to: options are for a sandbox with one of them.
func EachRegistry(t *testing.T, test func(t *testing.T, options server.Options)) {
	t.Helper()
	t.Run("distribution 3", func(t *testing.T) {
		t.Parallel()
		test(t, server.Options{})
	})
	t.Run("distribution 2", func(t *testing.T) {
		t.Parallel()
		Need(t, "docker-registry")
		test(t, server.Options{Registry: "docker-registry"})
	})
}

// OtherResource is the second image of the charm that StartSandboxWithOther makes.
const OtherResource = "other-image"

// StartSandboxWithOther starts a Charmhub whose charm has a second image.
func StartSandboxWithOther(t *testing.T, options server.Options) *server.Server {
	t.Helper()
	options.Charms = []server.Charm{{Name: Charm, Resources: []server.Resource{
		{Name: ImageResource, Type: server.TypeImage}, {Name: FileResource, Type: server.TypeFile},
		{Name: OtherResource, Type: server.TypeImage},
	}}}
	return StartSandbox(t, options)
}
