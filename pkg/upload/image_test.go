package upload

import (
	"net/url"
	"testing"
)

// TestReachedAs: another way to the registry changes where it is reached, and
// nothing of the repository.
func TestReachedAs(t *testing.T) {
	t.Parallel()
	const named = "registry.example/charm/x1y2/my-image"
	i := &imageJob{job: &job{}}
	if got := i.reachedAs(named); got != named {
		t.Errorf("%s without an input, want %s", got, named)
	}
	i.Endpoints.Registry = &url.URL{Scheme: "https", Host: "mirror.example:5000"}
	if got, want := i.reachedAs(named), "mirror.example:5000/charm/x1y2/my-image"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
