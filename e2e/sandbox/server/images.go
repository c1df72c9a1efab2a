package server

import (
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
)

// credentialLife is how long the credentials for an upload last.
const credentialLife = time.Hour

// The users of the registry's credentials.
const (
	pullUser = "docker-registry" // in the texts for images
	pushUser = "charm-publisher"
)

// RegistryAuth returns the name of a resource's repository and credentials with which any tool can log in to push and
// pull there. It panics if there is no such resource.
func (s *Server) RegistryAuth(charm, resource string) (image, username, password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, r := s.mustFind(charm, resource)
	username = pushUser
	if s.options.SameRegistryUser {
		username = pullUser
	}
	return s.imageName(c, r.name), username, s.newPassword(realmOwns, registryGrant{
		username: username, charm: c, actions: []string{"pull", "push"}, expires: time.Now().Add(credentialLife),
	})
}

// newPassword must be called under the lock.
func (s *Server) newPassword(owners Owners, grant registryGrant) string {
	password := randomText()
	s.passwords[password] = grant
	s.secrets.addPassword(owners, grant.username, password)
	return password
}

// uploadCredentials answers with the repository and the login of an image resource.
func (s *Server) uploadCredentials(c call) (any, error) {
	if err := needsImage(c); err != nil {
		return nil, err
	}
	image, username, password := s.RegistryAuth(c.charm.name, c.resource.name)
	return map[string]string{"image-name": image, "username": username, "password": password}, nil
}

// imageBlob gives the text by which a deployment finds an image that is in the charm's repository: the resource's
// content.
func (s *Server) imageBlob(c call) (any, error) {
	if err := needsImage(c); err != nil {
		return nil, err
	}
	var request struct {
		Digest digest.Digest `json:"image-digest"`
	}
	if err := readJSON(c.Request, &request); err != nil {
		return nil, err
	}
	if err := request.Digest.Validate(); err != nil {
		return nil, refuse(http.StatusBadRequest, "api-error", "image-digest: "+err.Error())
	}
	if !s.hasManifest(c.Context(), c.charm.repository(c.resource.name), request.Digest) {
		return nil, refuse(http.StatusBadRequest, "image-not-found",
			"Image "+string(request.Digest)+" not found in "+s.imageName(c.charm, c.resource.name))
	}
	return plainText(toJSON(imageText{
		ImageName: s.imageName(c.charm, c.resource.name) + "@" + string(request.Digest),
		Username:  pullUser,
		Password:  s.readPassword(c.charm),
	}) + "\n"), nil
}

// imageText is the content of a revision of an image.
type imageText struct{ ImageName, Username, Password string }

// readPassword is one for each charm, so that the text for an image is always the same, unless the options ask for
// another each time, or after a while.
func (s *Server) readPassword(c *charm) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	period := int64(0)
	if s.options.TextPeriod > 0 {
		period = s.now().UnixNano() / int64(s.options.TextPeriod)
	}
	if c.readPassword == "" || period != c.readPeriod || s.options.UnstableBlobs {
		c.readPeriod = period
		c.readPassword = s.newPassword(contentOwns,
			registryGrant{username: pullUser, charm: c, actions: []string{"pull"}, expires: time.Now().AddDate(10, 0, 0)})
	}
	return c.readPassword
}

// needsImage refuses a call about a resource that isn't an image.
func needsImage(c call) error {
	if c.resourceType != TypeImage {
		return refuse(http.StatusBadRequest, "invalid-resource-type",
			"Resource "+c.resource.name+" is of type "+c.resourceType+", not "+TypeImage)
	}
	return nil
}
