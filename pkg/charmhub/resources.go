package charmhub

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Account says whose credentials these are and what they are good for. Nil means
// without restriction.
type Account struct {
	Username    string
	Charms      []string
	Channels    []string
	Permissions []string
}

// Whoami asks who the credentials are of: GET /v1/tokens/whoami.
func (c *Client) Whoami(ctx context.Context) (Account, error) {
	var answer struct {
		Account  struct{ Username string }
		Packages []struct {
			Name string
			ID   string
		}
		Channels    []string
		Permissions []string
	}
	err := c.ask(ctx, request{
		doing:  "ask Charmhub whose store token this is",
		method: http.MethodGet, base: c.store, path: "/v1/tokens/whoami",
	}, &answer)
	if err != nil {
		return Account{}, err
	}
	account := Account{Username: answer.Account.Username, Channels: answer.Channels, Permissions: answer.Permissions}
	for _, p := range answer.Packages {
		// A package that was given by ID has no name here.
		if p.Name == "" {
			p.Name = p.ID
		}
		account.Charms = append(account.Charms, p.Name)
	}
	return account, nil
}

// The types of a resource.
const (
	TypeImage = "oci-image"
	TypeFile  = "file"
)

// Resource is one that a revision of a charm declares.
type Resource struct {
	Name          string
	Type          string // TypeImage or TypeFile
	CharmRevision int    `json:"revision"` // the charm's, not the resource's; 0 if the store doesn't tell
	Optional      bool
}

// Resources lists what the revisions of charm on Charmhub declare, in the store's
// order: GET /v1/charm/{charm}/resources. Several may declare one name, not all of
// them as the same type. It is empty for a charm that declares none.
func (c *Client) Resources(ctx context.Context, charm string) ([]Resource, error) {
	var answer struct{ Resources []Resource }
	err := c.ask(ctx, request{
		doing:  "list the resources of charm " + quoted(charm),
		method: http.MethodGet, base: c.store, path: charmPath(charm) + "/resources", limit: listLimit,
		charm: charm, permission: viewRevisions,
	}, &answer)
	return answer.Resources, err
}

// RegistryCredentials open the repository of one image resource.
type RegistryCredentials struct {
	ImageName string `json:"image-name"` // registry/charm/<id>/<resource>
	Username  string
	Password  string
}

// UploadCredentials asks for the repository of an image resource and the way in:
// GET …/oci-image/upload-credentials.
func (c *Client) UploadCredentials(ctx context.Context, charm, resource string) (RegistryCredentials, error) {
	var answer RegistryCredentials
	r := request{
		doing:  "get registry credentials for " + resourceOf(charm, resource),
		method: http.MethodGet, base: c.store, path: resourcePath(charm, resource) + "/oci-image/upload-credentials",
		charm: charm, resource: resource, permission: manageRevisions,
	}
	err := c.ask(ctx, r, &answer)
	c.maskLogin(answer.Username, answer.Password)
	if err == nil && (answer.ImageName == "" || answer.Password == "") {
		err = fmt.Errorf("cannot %s: the answer names no repository or no password", r.doing)
	}
	if err != nil {
		return RegistryCredentials{}, err
	}
	return answer, nil
}

// ImageBlob asks for the text that makes the image of this digest in the charm's
// repository the content of the resource: POST …/oci-image/blob. Its bytes are the
// store's own and mean nothing here, but there is a password in them.
func (c *Client) ImageBlob(ctx context.Context, charm, resource, digest string) ([]byte, error) {
	r := request{
		doing:  fmt.Sprintf("get the description of image %s for %s", harmless(digest, 100), resourceOf(charm, resource)),
		method: http.MethodPost, base: c.store, path: resourcePath(charm, resource) + "/oci-image/blob",
		body:  jsonBody(map[string]string{"image-digest": digest}),
		charm: charm, resource: resource, permission: manageRevisions,
	}
	text, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	c.maskBlob(text)
	if len(text) == 0 {
		return nil, errors.New("cannot " + r.doing + ": the answer is empty")
	}
	return text, nil
}

// maskBlob masks the password in a blob's text, or all of a text that keeps it
// in a way unknown here.
func (c *Client) maskBlob(text []byte) {
	var blob struct{ Username, Password string }
	if json.Unmarshal(text, &blob) != nil || blob.Password == "" {
		c.maskAll(strings.TrimSpace(string(text)))
		return
	}
	c.maskLogin(blob.Username, blob.Password)
}

// maskLogin masks a password, also in the shape of HTTP's basic authentication.
func (c *Client) maskLogin(username, password string) {
	if password == "" {
		return
	}
	c.maskAll(password)
	c.mask(base64.StdEncoding.EncodeToString([]byte(username + ":" + password)))
}

func charmPath(charm string) string { return "/v1/charm/" + url.PathEscape(charm) }

func resourcePath(charm, resource string) string {
	return charmPath(charm) + "/resources/" + url.PathEscape(resource)
}

func resourceOf(charm, resource string) string {
	return "resource " + quoted(resource) + " of charm " + quoted(charm)
}
