package main

import (
	"net/http"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// How a slow registry answers. Logs of 2022 show Charmhub's take as long for a
// request, and for the beginning of an upload; they show less than a tenth of the
// rate, which would hide the time that requests take.
const (
	slowAnswer = 500 * time.Millisecond
	slowBegin  = 3 * time.Second
	slowRate   = 5e6 // bytes a second each way, for all connections together
)

// slowRegistry makes a hub's registry slow: it delays each request, and limits the rate of its connections.
type slowRegistry struct{ link *link }

// charmhubRegistry returns the delays of the registry that images are uploaded to, nil if the setting has none.
func (s *setting) charmhubRegistry() *slowRegistry {
	if s.registry == "" {
		return nil
	}
	return &slowRegistry{newLink(s.rtt, uint64(min(s.link.up.Limit(), rate.Limit(slowRate))))}
}

// delay returns the fault that delays a request, nil for none.
func (*slowRegistry) delay(r server.Request) *server.Fault {
	switch {
	case r.Server != "registry":
		return nil
	case r.Method == http.MethodPost && strings.HasSuffix(r.Path, "/blobs/uploads/"):
		return &server.Fault{Delay: slowBegin}
	}
	return &server.Fault{Delay: slowAnswer}
}
