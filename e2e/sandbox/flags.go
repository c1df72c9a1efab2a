package main

import (
	"flag"
	"strings"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// arguments are what the command line asks for.
type arguments struct {
	profile string
	options server.Options
	envFile string
}

// parse reads a command line. The profile decides on what the other flags leave open, wherever it stands.
func parse(args []string) (arguments, error) {
	first := arguments{profile: server.Production}
	if err := first.flags().Parse(args); err != nil {
		return first, err
	}
	options, err := server.Profile(first.profile)
	if err != nil {
		return first, err
	}
	second := arguments{profile: first.profile, options: options}
	return second, second.flags().Parse(args)
}

// flags are all flags of the command. Their defaults are what the arguments have.
func (a *arguments) flags() *flag.FlagSet {
	a.options.Charms = []server.Charm{{}}
	charm := &a.options.Charms[0]
	flags := flag.NewFlagSet("sandbox", flag.ExitOnError)
	flags.StringVar(&a.profile, "profile", a.profile, "traits to begin with, one of "+
		strings.Join(server.Profiles(), ", ")+"; the other flags change single ones")
	flags.StringVar(&charm.Name, "charm", "my-charm", "name of the charm")
	flags.StringVar(&a.options.Addr, "addr", "127.0.0.1:0",
		"address of the store, on 127.0.0.1; the other servers take the ports after a fixed one")
	flags.StringVar(&a.envFile, "env-file", "", "file to write the variables to that lead the action to the sandbox")
	flags.StringVar(&a.options.Registry, "registry", "",
		"distribution binary to run as the registry, such as docker-registry; default is one within the sandbox")
	flags.BoolVar(&charm.Private, "private", false, "hide the charm from those without a token")
	const usage = "resource of the charm, NAME=oci-image or NAME=file, with ,optional if it can be released without; " +
		"may be repeated"
	flags.Func("resource", usage, func(text string) error {
		charm.Resources = append(charm.Resources, parseResource(text))
		return nil
	})
	traits(&a.options, flags)
	return flags
}

// traits are the flags that make a profile.
func traits(o *server.Options, flags *flag.FlagSet) {
	for _, trait := range []struct {
		option      *bool
		name, usage string
	}{
		{&o.SeparateTokenService, "separate-token-service",
			"give the registry's token service a server of its own, which answers GET alone"},
		{&o.SameRegistryUser, "same-registry-user", "give uploads the user that is in the texts about images"},
		{&o.SpacedJSON, "spaced-json", "write answers and the texts about images with spaces"},
		{&o.NestedHashes, "nested-hashes", "list the hashes of revisions under download"},
		{&o.NewestFirst, "newest-first", "list the newest revision of a resource first, not last"},
		{&o.SortedBases, "sorted-bases", "sort the architectures of bases that are merged"},
		{&o.FromZero, "from-zero", "number revisions from 0"},
		{&o.UnstableBlobs, "unstable-texts", "give another text about an image each time"},
		{&o.RejectDuplicates, "reject-duplicates", "reject content that a resource has already, with the revision's " +
			"number; else it is approved with it"},
		{&o.UnnumberedDuplicates, "unnumbered-duplicates",
			"reject a charm file that the charm has already without the revision's number"},
		{&o.NeverReview, "never-review", "end no review: each stays at the last of -statuses"},
		{&o.OutdatedToken, "outdated-token", "refuse the token, as Charmhub refuses those of charmcraft before 4.4"},
		{&o.Timeouts, "timeouts", "answer 504 to one of three uploads and requests for a revision, though they were taken"},
		{&o.Outages, "outages", "answer one of seven requests to the registry with 500, 503 or insufficient_scope"},
		{&o.NullAnswers, "null-answers", "answer releases with entries whose fields are null"},
		{&o.DropOmitted, "drop-omitted", "drop the resources that a release leaves out; else they stay"},
		{&o.NoReleaseBase, "no-release-base", "refuse a release that names a base"},
		{&o.IgnoreReleaseBase, "ignore-release-base", "release for all bases where a release names one"},
	} {
		flags.BoolVar(trait.option, trait.name, *trait.option, trait.usage)
	}
	flags.DurationVar(&o.Lag, "lag", o.Lag, "time for which lists miss a new revision, such as 10s")
	flags.DurationVar(&o.ReleaseLag, "release-lag", o.ReleaseLag,
		"time for which the channel map shows what was there before a release, such as 5s")
	flags.DurationVar(&o.TokenLife, "token-life", o.TokenLife, "how long the registry's tokens last; 0 is five minutes")
	flags.DurationVar(&o.TextPeriod, "text-period", o.TextPeriod,
		"time after which the text that describes an image has another password, such as 720h; default never")
	flags.Var((*statuses)(&o.Statuses), "statuses",
		"what a review shows before it ends, such as new,needs_review; default new,scanned")
	flags.StringVar((*string)(&o.Rows), "rows", string(o.Rows),
		"rows of the list of a charm's resources: those of the revision that is asked for, or newest, partial, others or all")
}

// statuses is a flag's value: words with commas between them.
type statuses []string

// String returns the statuses as the flag takes them.
func (s *statuses) String() string { return strings.Join(*s, ",") }

// Set replaces the statuses by a list with commas.
func (s *statuses) Set(text string) error {
	*s = strings.Split(text, ",")
	return nil
}
