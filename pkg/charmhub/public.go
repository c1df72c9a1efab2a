package charmhub

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"

	"github.com/charmhub-actions/upload-resource/pkg/parallel"
)

// ImageName returns the name with a digest under which Juju pulls an image, from the text that describes the image to
// Juju (see [Client.ImageBlob]). It is "" for any other text.
func ImageName(text []byte) string {
	var image struct{ ImageName string }
	if json.Unmarshal(text, &image) != nil {
		return ""
	}
	return image.ImageName
}

// ImageNames reads the texts of revisions of an image resource, and returns the [ImageName] of each by the revision's
// number. It reads them as Juju does, without credentials: GET /v2/charms/resources/{charm}/{resource}/revisions lists
// where they are, which may be on another host. So it can't read those of a private charm. A text counts only if it has
// the SHA-256 and size that the revisions say. With an error, the names of the texts that could be read are returned
// nevertheless.
func (c *Client) ImageNames(ctx context.Context, charm, resource string, of []Revision) (map[int]string, error) {
	var answer struct{ Revisions []listedRevision }
	list := request{
		doing: "read the public revisions of " + resourceOf(charm, resource),
		path:  "/v2/charms/resources/" + url.PathEscape(charm) + "/" + url.PathEscape(resource) + "/revisions",
	}
	text, err := c.public(ctx, list, maxAnswer)
	if err == nil {
		err = list.decode(text, &answer)
	}
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	names := map[int]string{}
	var g parallel.Group
	for _, revision := range of {
		g.Go(func() error {
			name, err := c.imageName(ctx, charm, resource, revision, answer.Revisions)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				names[revision.Revision] = name
			}
			return err
		})
	}
	return names, g.Wait()
}

// imageName reads the text of one revision from where the list says that it is.
func (c *Client) imageName(
	ctx context.Context, charm, resource string, of Revision, list []listedRevision,
) (string, error) {
	r := request{doing: fmt.Sprintf("read the text of revision %d of %s", of.Revision, resourceOf(charm, resource))}
	at, err := c.downloadURL(of.Revision, list)
	if err != nil {
		return "", fmt.Errorf("cannot %s: %w", r.doing, err)
	}
	r.base = at
	text, err := c.public(ctx, r, int(of.Size))
	if err != nil {
		return "", err
	}
	c.maskText(text)
	if digest := sha256.Sum256(text); int64(len(text)) != of.Size || hex.EncodeToString(digest[:]) != of.SHA256 {
		return "", fmt.Errorf("cannot %s: it has another SHA-256 than Charmhub lists", r.doing)
	}
	return ImageName(text), nil
}

// downloadURL returns where the content of a revision is.
func (c *Client) downloadURL(revision int, list []listedRevision) (string, error) {
	store, err := url.Parse(c.config.StoreURL)
	if err != nil {
		return "", err
	}
	for _, listed := range list {
		if listed.Revision == nil || *listed.Revision != revision || listed.Download.URL == "" {
			continue
		}
		at, err := store.Parse(listed.Download.URL)
		if err != nil || at.Host == "" || at.User != nil {
			return "", fmt.Errorf("its URL %q is not an address", harmless(listed.Download.URL, 200))
		}
		return at.String(), nil
	}
	return "", errors.New("the public list lacks it")
}

// public sends r without credentials, and returns at most limit bytes of the answer's body. It follows redirects, also
// to another host.
func (c *Client) public(ctx context.Context, r request, limit int) ([]byte, error) {
	client := &http.Client{Transport: c.http.Transport, CheckRedirect: fewRedirects}
	text, err := c.sendOnceWith(ctx, client, r, "", limit)
	if refused := new(Error); errors.As(err, &refused) {
		refused.Doing = r.doing
		if refused.Status == http.StatusUnauthorized || refused.Status == http.StatusForbidden ||
			refused.Status == http.StatusNotFound {
			refused.Advice = "the charm may be private"
		}
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("cannot %s: %w", r.doing, err)
	}
	return text, nil
}

// fewRedirects follows at most maxRedirects redirects, to any host. It is for requests without credentials.
func fewRedirects(to *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return fmt.Errorf("%s redirects too often", origin(via[0].URL))
	}
	to.Header.Del("Referer") // the address before may hold a signature
	return nil
}
