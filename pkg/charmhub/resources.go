package charmhub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Resource is one that a revision of a charm declares.
type Resource struct {
	Name          string
	Type          string // charm.TypeImage or charm.TypeFile
	CharmRevision *int   `json:"revision"` // the charm's, not the resource's; nil if the store doesn't say
	Optional      bool   // the charm can be released without it
}

// Resources lists what the revisions of charm on Charmhub declare, in the store's order: GET
// /v1/charm/{charm}/resources. Several may declare one name, not all of them as the same type. It is empty for a charm
// that declares none.
func (c *Client) Resources(ctx context.Context, charm string) ([]Resource, error) {
	var answer struct{ Resources []Resource }
	err := c.ask(ctx, request{
		doing: "list the resources of charm " + quoted(charm),
		charm: charm, path: "/resources", permission: viewRevisions,
	}, &answer)
	return answer.Resources, err
}

// ResourcesOf lists what one revision of charm declares: GET /v1/charm/{charm}/resources?revision=N. The list may be
// incomplete. If the store ignores the parameter, it leaves out what only other revisions declare.
func (c *Client) ResourcesOf(ctx context.Context, charm string, revision int) ([]Resource, error) {
	var answer struct{ Resources []Resource }
	err := c.ask(ctx, request{
		doing: fmt.Sprintf("list the resources of revision %d of charm %s", revision, quoted(charm)),
		charm: charm, path: fmt.Sprintf("/resources?revision=%d", revision), permission: viewRevisions,
	}, &answer)
	if ofSeveral(answer.Resources) {
		answer.Resources = slices.DeleteFunc(answer.Resources,
			func(r Resource) bool { return r.CharmRevision == nil || *r.CharmRevision != revision })
	}
	return answer.Resources, err
}

// ofSeveral reports whether the list has one resource as two charm revisions declare it.
func ofSeveral(list []Resource) bool {
	revisions := map[string]int{}
	for _, r := range list {
		if r.CharmRevision == nil {
			continue
		}
		if other, ok := revisions[r.Name]; ok && other != *r.CharmRevision {
			return true
		}
		revisions[r.Name] = *r.CharmRevision
	}
	return false
}

// RegistryCredentials give access to the repository of one image resource.
type RegistryCredentials struct {
	ImageName string `json:"image-name"` // registry/charm/<id>/<resource>
	Username  string
	Password  string // masked already
}

// UploadCredentials returns the repository of an image resource and its credentials: GET
// …/oci-image/upload-credentials. An answer without repository or password is an error.
func (c *Client) UploadCredentials(ctx context.Context, charm, resource string) (RegistryCredentials, error) {
	var answer RegistryCredentials
	r := request{
		doing: "get registry credentials for " + resourceOf(charm, resource),
		charm: charm, resource: resource, path: "/oci-image/upload-credentials", permission: manage,
	}
	err := c.ask(ctx, r, &answer)
	c.maskAll(answer.Password)
	if err == nil && (answer.ImageName == "" || answer.Password == "") {
		err = fmt.Errorf("cannot %s: the answer names no repository or no password", r.doing)
	}
	if err != nil {
		return RegistryCredentials{}, err
	}
	return answer, nil
}

// ImageBlob asks for the text that makes the image of this digest in the charm's repository the content of the
// resource: POST …/oci-image/blob. The text is to be uploaded as it is; the password in it is masked.
func (c *Client) ImageBlob(ctx context.Context, charm, resource, digest string) ([]byte, error) {
	r := request{
		doing: fmt.Sprintf("get the description of image %s for %s", harmless(digest, 100), resourceOf(charm, resource)),
		charm: charm, resource: resource, path: "/oci-image/blob", permission: manage,
		method: http.MethodPost, body: jsonBody(map[string]string{"image-digest": digest}),
	}
	text, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	c.maskText(text)
	if len(text) == 0 {
		return nil, errors.New("cannot " + r.doing + ": the answer is empty")
	}
	return text, nil
}

// maskText masks the password in the text of an image, or the whole text if it has an unknown form.
func (c *Client) maskText(text []byte) {
	var blob struct{ Username, Password string }
	if json.Unmarshal(text, &blob) != nil || blob.Password == "" {
		blob.Password = strings.TrimSpace(string(text))
	}
	c.maskAll(blob.Password)
	c.maskAll(blob.Username + ":" + blob.Password) // as basic authentication sends it
}

// resourceOf names a resource and its charm in a sentence.
func resourceOf(charm, resource string) string {
	return "resource " + quoted(resource) + " of charm " + quoted(charm)
}
