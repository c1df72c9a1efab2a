package release

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
)

var (
	edge = charmhub.Channel{Track: "latest", Risk: "edge"}
	beta = charmhub.Channel{Track: "latest", Risk: "beta"}

	goodRelease = env{"INPUT_CHARM": "my-charm", "INPUT_STORE-TOKEN": aToken}
)

func TestInputs(t *testing.T) {
	for name, test := range map[string]struct {
		given env
		want  Inputs
	}{
		"files to several channels": {
			env{"INPUT_CHANNEL": "edge, 2/beta/pr-1\nlatest/stable", "INPUT_CHARMS": "a.charm b.charm\nout/c.charm", "INPUT_DRY-RUN": "true"},
			Inputs{
				Channels: []charmhub.Channel{edge, {Track: "2", Risk: "beta", Branch: "pr-1"}, {Track: "latest", Risk: "stable"}},
				Files:    []string{"a.charm", "b.charm", "out/c.charm"}, DryRun: true,
			},
		},
		"files without a channel": {env{"INPUT_CHARMS": "a.charm"}, Inputs{Files: []string{"a.charm"}}},
		"revisions with resources in lines": {
			env{"INPUT_CHANNEL": "edge", "INPUT_CHARM-REVISION": "12 13,0", "INPUT_RESOURCES": "my-image:3\nmy-file:0, my-file:0"},
			Inputs{Channels: []charmhub.Channel{edge}, Revisions: []int{12, 13, 0}, Resources: map[string]int{"my-image": 3, "my-file": 0}},
		},
		"promotion with an upload's output": {
			env{"INPUT_CHANNEL": "beta", "INPUT_FROM-CHANNEL": "edge", "INPUT_RESOURCES": `[{"name":"my-image","revision":3,"created":true,"uploaded":true},{"name":"my-file","revision":0}]`},
			Inputs{Channels: []charmhub.Channel{beta}, From: edge, Resources: map[string]int{"my-image": 3, "my-file": 0}},
		},
		"the outputs of several uploads": {
			env{"INPUT_CHANNEL": "edge", "INPUT_RESOURCES": "[{\"name\":\"my-image\",\"revision\":3}]\n[{\"name\":\"my-file\",\"revision\":2}]\nother:1"},
			Inputs{Channels: []charmhub.Channel{edge}, Resources: map[string]int{"my-image": 3, "my-file": 2, "other": 1}},
		},
		"an upload of nothing": {env{"INPUT_CHANNEL": "edge", "INPUT_RESOURCES": "[]"}, Inputs{Channels: []charmhub.Channel{edge}}},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := newRunner(goodRelease.With(test.given))
			got, err := ReadInputs(r)
			if err != nil {
				t.Fatal(err)
			}
			test.want.Charm, test.want.Credentials, test.want.Endpoints = "my-charm", got.Credentials, got.Endpoints
			if test.want.Resources == nil {
				test.want.Resources = map[string]int{}
			}
			if len(got.Files) == 0 {
				got.Files = nil
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(charmhub.Credentials{})); diff != "" {
				t.Errorf("inputs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReleaseComplaints(t *testing.T) {
	for name, test := range map[string]struct {
		given env
		want  string
	}{
		"nothing":               {env{}, "inputs channel, charms: none is given"},
		"no charm":              {env{"INPUT_CHARM": "", "INPUT_CHANNEL": "edge"}, "input charm: missing"},
		"no token":              {env{"INPUT_CHANNEL": "edge", "INPUT_STORE-TOKEN": ""}, "input store-token: no credentials for Charmhub are given"},
		"no channel":            {env{"INPUT_CHARM-REVISION": "1"}, "input channel: missing"},
		"resources alone":       {env{"INPUT_CHARMS": "a.charm", "INPUT_RESOURCES": "a:1"}, "input channel: missing"},
		"a channel that isn't":  {env{"INPUT_CHANNEL": "latest/egde"}, `input channel: "latest/egde" is not a channel`},
		"from two channels":     {env{"INPUT_CHANNEL": "beta", "INPUT_FROM-CHANNEL": "edge candidate"}, "is more than one channel; give one"},
		"two ways":              {env{"INPUT_CHANNEL": "beta", "INPUT_FROM-CHANNEL": "edge", "INPUT_CHARMS": "a.charm"}, "inputs charms, from-channel: given together"},
		"a revision that isn't": {env{"INPUT_CHANNEL": "edge", "INPUT_CHARM-REVISION": "latest"}, `"latest" is no revision; give numbers`},
		"a negative revision":   {env{"INPUT_CHANNEL": "edge", "INPUT_CHARM-REVISION": "-1"}, `"-1" is no revision; give numbers`},
		"no number":             {env{"INPUT_CHANNEL": "edge", "INPUT_RESOURCES": "my-image"}, `"my-image" lacks a revision; write name:revision`},
		"no name":               {env{"INPUT_CHANNEL": "edge", "INPUT_RESOURCES": ":3"}, `"" is invalid; a resource's name`},
		"two revisions of one":  {env{"INPUT_CHANNEL": "edge", "INPUT_RESOURCES": "a:1 a:2"}, "a is given with the revisions 1 and 2; give one of them"},
		"no JSON":               {env{"INPUT_CHANNEL": "edge", "INPUT_RESOURCES": "[a]"}, "is not the output resources of an upload; pass"},
		"of a dry run":          {env{"INPUT_CHANNEL": "edge", "INPUT_RESOURCES": `[{"name":"a"}]`}, `"a" is without a revision, as a dry run leaves it`},
		"a negative one":        {env{"INPUT_CHANNEL": "edge", "INPUT_RESOURCES": `[{"name":"a","revision":-1}]`}, "which can't be one"},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := newRunner(goodRelease.With(test.given))
			_, err := ReadInputs(r)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Count(err.Error(), "\n") > 0 {
				t.Errorf("got %v, want %q alone", err, test.want)
			}
		})
	}
}
