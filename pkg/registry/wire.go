package registry

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// maxAnswer bounds every answer that isn't a blob: manifests, tokens, error lists. It is the limit that CNCF
// distribution puts on manifests.
const maxAnswer = 4 << 20

// wire is the transport below authentication. That sends a request again after a 401, with a body that may have been read
// by then, so here every attempt gets a body of its own. And it knows of no path before the registry's own, /v2/.
type wire struct {
	next http.RoundTripper
	host string // of the registry
	path string // before /v2/, "" for none

	challenge *Challenge // answers the question how to authenticate; nil for none
}

func (w wire) RoundTrip(req *http.Request) (*http.Response, error) {
	if res, err := w.challenge.answer(req); res != nil || err != nil {
		return res, err
	}
	req = req.WithContext(req.Context())
	if req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		req.Body = body
	}
	if w.path != "" && req.URL.Host == w.host && strings.HasPrefix(req.URL.Path, "/v2/") {
		below := *req.URL
		below.Path, below.RawPath = w.path+req.URL.Path, ""
		req.URL = &below
	}
	res, err := w.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if strings.Contains(req.URL.Path, "/blobs/sha") {
		return res, nil
	}
	if err := checkRedirect(req, res); err != nil {
		_ = res.Body.Close()
		return nil, err
	}
	res.Body = http.MaxBytesReader(nil, res.Body, maxAnswer)
	return res, nil
}

// checkRedirect refuses to be sent to another host. Registries have blobs on other hosts, and reading these takes no
// credentials; whoever else answers in a registry's place could ask for these.
func checkRedirect(req *http.Request, res *http.Response) error {
	to, err := res.Location()
	switch {
	case res.StatusCode/100 != 3 || errors.Is(err, http.ErrNoLocation):
		return nil
	case err != nil:
		return fmt.Errorf("%s sends a %s on to an address that is none: %w", req.URL.Host, req.Method, err)
	case to.Host == req.URL.Host && to.Scheme == req.URL.Scheme:
		return nil
	}
	return fmt.Errorf("%s sends a %s on to %q, another host, which isn't followed",
		req.URL.Host, req.Method, to.Scheme+"://"+to.Host)
}
