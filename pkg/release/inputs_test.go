package release

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/charmhub-actions/upload-resource/pkg/charm"
	"github.com/charmhub-actions/upload-resource/pkg/charmhub"
)

var (
	edge = charmhub.Channel{Track: "latest", Risk: "edge"}
	beta = charmhub.Channel{Track: "latest", Risk: "beta"}

	goodInputs = env{"INPUT_CHARM": "my-charm", "INPUT_STORE-TOKEN": aToken, "INPUT_BASES": "all"}
)

func TestInputs(t *testing.T) {
	for name, test := range map[string]struct {
		given env
		want  Inputs
	}{
		"files to several channels": {
			env{"INPUT_CHANNEL": "edge, 2/beta/pr-1\nlatest/stable", "INPUT_CHARMS": "a.charm b.charm\nout/c.charm",
				"INPUT_DRY-RUN": "true"},
			Inputs{
				Channels: []charmhub.Channel{{Risk: "edge"}, {Track: "2", Risk: "beta", Branch: "pr-1"},
					{Track: "latest", Risk: "stable"}},
				Files: []string{"a.charm", "b.charm", "out/c.charm"}, DryRun: true,
			},
		},
		"files to no channel": {env{"INPUT_CHARMS": "a.charm", "INPUT_CHANNEL": "none"}, Inputs{Files: []string{"a.charm"}}},
		"files with the channel's resources": {
			env{"INPUT_CHANNEL": "latest/edge", "INPUT_CHARMS": "a.charm", "INPUT_RESOURCES": "keep"},
			Inputs{Channels: []charmhub.Channel{edge}, Files: []string{"a.charm"}, KeepResources: true},
		},
		"revisions with resources in lines": {
			env{"INPUT_CHANNEL": "latest/edge", "INPUT_CHARM-REVISION": "12 13,0",
				"INPUT_RESOURCES": "my-image:3\nmy-file:0, my-file:0"},
			Inputs{Channels: []charmhub.Channel{edge}, Revisions: []int{12, 13, 0},
				Resources: map[string]int{"my-image": 3, "my-file": 0}},
		},
		"promotion with an upload's output": {
			env{
				"INPUT_CHANNEL": "latest/beta", "INPUT_FROM-CHANNEL": "latest/edge",
				"INPUT_RESOURCES": `[{"name":"my-image","revision":3,"created":true,"uploaded":true,"remote-digest":"sha256:` +
					strings.Repeat("ab", 32) + `"},{"name":"my-file","revision":0}]`,
			},
			Inputs{
				Channels: []charmhub.Channel{beta}, From: edge, Resources: map[string]int{"my-image": 3, "my-file": 0},
				Digests: map[string]string{"my-image": "sha256:" + strings.Repeat("ab", 32)},
			},
		},
		"a new track": {
			env{"INPUT_CHANNEL": "2/edge", "INPUT_FROM-CHANNEL": "latest/edge", "INPUT_CREATE-TRACK": "true"},
			Inputs{Channels: []charmhub.Channel{{Track: "2", Risk: "edge"}}, From: edge, CreateTracks: true},
		},
		"promotion alone": {
			env{"INPUT_CHANNEL": "latest/beta", "INPUT_FROM-CHANNEL": "edge"},
			Inputs{Channels: []charmhub.Channel{beta}, From: charmhub.Channel{Risk: "edge"}},
		},
		"some bases": {
			env{"INPUT_CHANNEL": "latest/beta", "INPUT_FROM-CHANNEL": "latest/edge",
				"INPUT_BASES": "24.04, ubuntu@22.04:arm64\n20.04"},
			Inputs{Channels: []charmhub.Channel{beta}, From: edge,
				Bases: []charm.BaseFilter{{Channel: "24.04"}, {Name: "ubuntu", Channel: "22.04", Architecture: "arm64"},
					{Channel: "20.04"}}},
		},
		"the outputs of several uploads": {
			env{
				"INPUT_CHANNEL": "latest/edge", "INPUT_CHARM-REVISION": "keep",
				"INPUT_RESOURCES": "[{\"name\":\"my-image\",\"revision\":3,\"remote-digest\":\"; rm -r " +
					"/\"}]\n[{\"name\":\"my-file\",\"revision\":2}]\nother:1",
			},
			Inputs{Channels: []charmhub.Channel{edge}, KeepRevisions: true,
				Resources: map[string]int{"my-image": 3, "my-file": 2, "other": 1}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := newRunner(goodInputs.With(test.given))
			got, err := ReadInputs(r)
			if err != nil {
				t.Fatal(err)
			}
			test.want.Charm, test.want.Credentials, test.want.Endpoints = "my-charm", got.Credentials, got.Endpoints
			if test.want.Resources == nil {
				test.want.Resources = map[string]int{}
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(charmhub.Credentials{})); diff != "" {
				t.Errorf("inputs (-want +got):\n%s", diff)
			}
		})
	}
}

// Each mistake is one complaint. An expression that lost its value leaves an input empty, which never means something
// else than what its author wrote.
func TestComplaints(t *testing.T) {
	const empty = " (an expression whose step or output doesn't exist is empty)"
	promote := env{"INPUT_CHANNEL": "latest/beta", "INPUT_FROM-CHANNEL": "latest/edge"}
	kept := env{"INPUT_CHANNEL": "latest/edge", "INPUT_CHARM-REVISION": "keep", "INPUT_RESOURCES": "a:1"}
	upload := env{"INPUT_CHANNEL": "none", "INPUT_CHARMS": "a.charm"}
	for name, test := range map[string]struct {
		given  env
		change env
		want   string
	}{
		"no charms": {
			upload, env{"INPUT_CHARMS": ""}, "inputs charms, charm-revision, from-channel: none is given; give the one that " +
				"says which charm revisions to release, or charm-revision: keep for those that are on the channel" + empty,
		},
		"no from-channel": {promote, env{"INPUT_FROM-CHANNEL": " "},
			"inputs charms, charm-revision, from-channel: none is given; "},
		"no charm-revision": {kept, env{"INPUT_CHARM-REVISION": ""},
			"inputs charms, charm-revision, from-channel: none is given; "},
		"no channel": {
			upload, env{"INPUT_CHANNEL": ""}, "input channel: missing; give where to release, for example latest/edge, or " +
				"none to upload charm files and release nothing",
		},
		"no resources": {
			kept, env{"INPUT_RESOURCES": ""}, "input resources: missing, and charm-revision keep releases nothing but them; " +
				"give the revisions to release" + empty,
		},
		"an empty line of charms":    {upload, env{"INPUT_CHARMS": "\n"}, "input charms: line 1 is empty; "},
		"an empty line of channels":  {kept, env{"INPUT_CHANNEL": "\n"}, "input channel: line 1 is empty; "},
		"an empty line of resources": {kept, env{"INPUT_RESOURCES": "\n"}, "input resources: line 1 is empty; "},
		"a channel that is a comma":  {kept, env{"INPUT_CHANNEL": "latest/edge,"}, "input channel: entry 2 is empty; "},
		"resources that are a comma": {kept, env{"INPUT_RESOURCES": "a:1,"},
			`input resources: "a:1," has an empty entry; `},
		"an upload of nothing": {kept, env{"INPUT_RESOURCES": "[]"}, "input resources: an upload's list is empty, "},
		"one of several is of nothing": {kept, env{"INPUT_RESOURCES": "a:1\n[]"},
			"input resources: an upload's list is empty, "},
		"nothing to do": {kept, env{"INPUT_RESOURCES": "keep"},
			"input resources: keep is given with charm-revision keep, so nothing would be released; "},
		"promoted, and kept": {promote, env{"INPUT_RESOURCES": "keep"},
			"input resources: keep is given with from-channel, whose resources are promoted; "},
		"kept, and others": {kept, env{"INPUT_RESOURCES": "keep a:1"},
			"input resources: keep is given together with others; "},
		"revisions kept, and others": {kept, env{"INPUT_CHARM-REVISION": "keep 1"},
			"input charm-revision: keep is given together with others; "},
		"no channel, and one": {upload, env{"INPUT_CHANNEL": "none, latest/edge"},
			"input channel: none is given together with others; "},
		"no channel to promote to": {promote, env{"INPUT_CHANNEL": "none"}, "input channel: none is given without charms, "},
		"no channel for resources": {upload, env{"INPUT_RESOURCES": "a:1"},
			"input resources: given with channel none, which releases nothing; "},
		"bases of a mistyped step": {
			promote, env{"INPUT_BASES": ""}, "input bases: empty; give the bases to release for, or all (an expression whose " +
				"step, output or matrix value doesn't exist is empty)",
		},
		"bases that end in a comma": {promote, env{"INPUT_BASES": "24.04,"}, "input bases: entry 2 is empty; "},
		"all bases, and one": {promote, env{"INPUT_BASES": "all 24.04"},
			"input bases: all is given together with others; keep all, or the others"},
		"a base that isn't": {promote, env{"INPUT_BASES": "ubuntu@"},
			`input bases: "ubuntu@" is no base; write its channel`},
		"bases of nothing": {upload, env{"INPUT_BASES": "24.04"},
			"input bases: given with channel none, which releases nothing; leave out bases, or give where to release"},
		"a track of nothing": {upload, env{"INPUT_CREATE-TRACK": "true"},
			"input create-track: given with channel none, which releases nothing; "},
		"a track, or not": {promote, env{"INPUT_CREATE-TRACK": "yes"},
			`input create-track: "yes" is unknown; write true or false`},
		"no charm": {kept, env{"INPUT_CHARM": ""}, "input charm: missing"},
		"a channel that isn't": {kept, env{"INPUT_CHANNEL": "latest/egde"},
			`input channel: "latest/egde" is not a channel`},
		"from two channels": {promote, env{"INPUT_FROM-CHANNEL": "edge candidate"},
			"is more than one channel; give one"},
		"two ways": {promote, env{"INPUT_CHARMS": "a.charm"},
			"inputs charms, from-channel: given together"},
		"a revision that isn't": {kept, env{"INPUT_CHARM-REVISION": "latest"},
			`"latest" is no revision; give numbers`},
		"a negative revision": {kept, env{"INPUT_CHARM-REVISION": "-1"}, `"-1" is no revision; give numbers`},
		"no number": {kept, env{"INPUT_RESOURCES": "my-image"},
			`"my-image" lacks a revision; write name:revision`},
		"no name": {kept, env{"INPUT_RESOURCES": ":3"}, `"" is invalid; a resource's name`},
		"two revisions of one": {kept, env{"INPUT_RESOURCES": "a:1 a:2"},
			"a is given with the revisions 1 and 2; give one of them"},
		"no JSON": {kept, env{"INPUT_RESOURCES": `[{"name":"a","revision":"3"}]`},
			"is not the output resources of an upload; pass"},
		"of a dry run": {kept, env{"INPUT_RESOURCES": `[{"name":"a","created":false}]`},
			`"a" is without a revision, as a dry run leaves it`},
		"a negative number of resource": {kept, env{"INPUT_RESOURCES": `[{"name":"a","revision":-1}]`}, "which can't be one"},
		"no token": {
			kept, env{"INPUT_STORE-TOKEN": ""}, "input store-token: no credentials for Charmhub are given; make some with " +
				"`charmcraft login --export=token.txt --charm=my-charm " +
				"--permission=package-manage-revisions --permission=package-view-revisions --permission=package-manage-releases " +
				"--permission=package-view-releases " +
				"--ttl=7776000`, store what that file holds as a secret of the repository, and pass it with store-token: ${{ " +
				"secrets.CHARMHUB_RELEASE_TOKEN }} (pull requests from a fork or by Dependabot get no secrets of Actions)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := newRunner(goodInputs.With(test.given).With(test.change))
			_, err := ReadInputs(r)
			wantError(t, err, test.want)
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one complaint: %v", err)
			}
		})
	}
}
