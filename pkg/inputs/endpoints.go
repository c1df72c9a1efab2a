package inputs

import (
	"net/url"
	"strings"

	"github.com/charmhub-actions/upload-resource/pkg/transport"
)

// Endpoints are the servers that make up Charmhub. Their URLs have no slash at the end.
type Endpoints struct {
	Store    *url.URL // the publisher API
	Storage  *url.URL // takes uploaded files
	Registry *url.URL // takes images; nil for the one that Charmhub names
	SSO      *url.URL // refreshes credentials
}

// productionStore and productionRegistry belong together.
const (
	productionStore    = "https://api.charmhub.io"
	productionRegistry = "https://registry.jujucharms.com"
)

// LikelyRegistry returns the registry that Charmhub is going to name, nil where that can't be known beforehand.
func (e Endpoints) LikelyRegistry() *url.URL {
	if e.Registry == nil && e.Store.String() == productionStore {
		return &url.URL{Scheme: "https", Host: strings.TrimPrefix(productionRegistry, "https://")}
	}
	return e.Registry
}

// Website returns the URL of the site with a page for each charm. It is empty for a store that isn't Charmhub's own,
// whose charms that site doesn't show.
func (e Endpoints) Website() string {
	if e.Store.String() == productionStore {
		return "https://charmhub.io"
	}
	return ""
}

// Endpoints reads where the servers are: from the inputs, else from the variables that charmcraft reads, else
// Charmhub's own.
func (r *Reader) Endpoints() Endpoints {
	e := Endpoints{
		Store:   r.endpoint("store-url", "CHARMCRAFT_STORE_API_URL", productionStore),
		Storage: r.endpoint("storage-url", "CHARMCRAFT_UPLOAD_URL", "https://storage.snapcraftcontent.com"),
		SSO:     r.endpoint("sso-url", "CHARMCRAFT_STORE_SSO_URL", "https://login.ubuntu.com"),
	}
	if r.First("registry-url", "CHARMCRAFT_REGISTRY_URL") != "" {
		e.Registry = r.endpoint("registry-url", "CHARMCRAFT_REGISTRY_URL", productionRegistry)
	}
	return e
}

// endpoint reads one URL. No complaint repeats it, since a URL that is wrong may be wrong by holding a password.
func (r *Reader) endpoint(input, variable, production string) *url.URL {
	origin, value := "input "+input, r.First(input, variable)
	switch {
	case value == "":
		value = production
	case r.Input(input) == "":
		origin = "variable " + variable
	}
	u, err := url.Parse(strings.TrimRight(value, "/"))
	switch {
	case err != nil || u.Hostname() == "":
		r.Complain("%s: no absolute URL; write one like %s", origin, production)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		r.Complain("%s: more than a server and a path; write a URL like %s", origin, production)
	case u.Scheme != "https" && (u.Scheme != "http" || !transport.IsLoopback(u.Hostname())):
		r.Complain("%s: the URL doesn't start with https://, and secrets are sent there; write https://, since http:// is "+
			"only for servers on this machine", origin)
	}
	return u
}
