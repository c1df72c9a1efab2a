package charmhub

import (
	"fmt"
	"net/http"
	"net/url"
)

// maxRedirects is how many redirects of one request are followed.
const maxRedirects = 5

// stayOnHost lets http.Client follow a redirect only to the same host by the same method: the credentials are for that
// host alone, and a POST that comes back as a GET has not done what it was sent for.
func stayOnHost(to *http.Request, via []*http.Request) error {
	from := via[0]
	switch {
	case to.URL.Host != from.URL.Host || to.URL.Scheme != from.URL.Scheme:
		return fmt.Errorf("%s redirects to %s, which is not followed because the credentials are for %s alone; if that is "+
			"the right address, set it as the endpoint's URL",
			origin(from.URL), harmless(origin(to.URL), 200), from.URL.Host)
	case to.Method != from.Method:
		return fmt.Errorf("%s redirects a %s, which is not followed", origin(from.URL), from.Method)
	case len(via) >= maxRedirects:
		return fmt.Errorf("%s redirects too often; check its address", origin(from.URL))
	}
	return nil
}

// origin returns the scheme, host and port of u.
func origin(u *url.URL) string { return u.Scheme + "://" + u.Host }
