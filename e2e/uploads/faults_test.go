package uploads

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
	"github.com/charmhub-actions/upload-resource/internal/faultproxy"
)

// TestFaultSchedules: whatever goes wrong, a run ends right or in an error and
// without a revision; the next one then ends right.
func TestFaultSchedules(t *testing.T) {
	t.Parallel()
	harness.EachRegistry(t, testFaultSchedules)
}

// testFaultSchedules runs jobs under random schedules of faults, and logs how many ended in an error. It runs fewer
// schedules on a registry other than the default.
func testFaultSchedules(t *testing.T, options server.Options) {
	t.Helper()
	usual := int64(harness.Schedules)
	if options.Registry != "" {
		usual /= 4 // what differs is the registry alone
	}
	job := newFaultyJobs(t)
	var runs, failed atomic.Int64
	harness.EachSchedule(t, usual, func(t *testing.T, seed, n uint64) { //nolint:thelper // the body of a subtest
		runs.Add(1)
		if job[n%uint64(len(job))].run(t, options, newSchedule(seed, n)).Exit != 0 {
			failed.Add(1)
		}
	})
	t.Logf("%d of %d runs ended in an error", failed.Load(), runs.Load())
}

// faultyJob is a job with what comes of it where nothing goes wrong.
type faultyJob struct {
	resource, input string
	want            map[string]string
	sha256          string // of the revision's content; empty if that differs between sandboxes
}

// newFaultyJobs returns the jobs to run under faults. It runs each once without faults, to learn the right outputs.
func newFaultyJobs(t *testing.T) []faultyJob {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	harness.WriteFile(t, path, strings.Repeat("content of a file\n", 20000))
	jobs := []faultyJob{
		{resource: harness.ImageResource, input: "image=" + harness.WriteImageArchive(t, 500_000, 3)},
		{resource: harness.ImageResource, input: "image=" + harness.WriteImageArchive(t, 5<<20, 1)},
		{resource: harness.FileResource, input: "filepath=" + path, sha256: harness.SHA256Of(harness.ReadFile(t, path))},
	}
	for n, job := range jobs {
		r := harness.Upload(t, harness.StartSandbox(t, server.Options{}), "resource="+job.resource, job.input)
		r.Succeeded(t)
		jobs[n].want = map[string]string{
			"revision": "1", "source-digest": r.Outputs["source-digest"], "remote-digest": r.Outputs["remote-digest"],
		}
	}
	return jobs
}

// run runs the job while the schedule's faults happen, and returns the result of that run. If it failed, a second run
// without faults must succeed.
func (j faultyJob) run(t *testing.T, options server.Options, s *schedule) harness.Result {
	t.Helper()
	options.TokenLife = s.tokenLife
	sandbox, all := harness.StartBehindProxies(t, options)
	sandbox.Fault(s.start(all))
	ctx, cancel := context.WithTimeout(t.Context(), harness.ScheduleTime)
	defer cancel()
	began := time.Now()
	r := harness.UploadContext(ctx, t, sandbox, "resource="+j.resource, j.input)
	sandbox.Fault(nil)
	s.stop()
	if ctx.Err() != nil {
		t.Errorf("not done after %s", harness.ScheduleTime)
	}
	if r.Exit == 0 {
		j.isRight(t, sandbox, r)
	} else {
		t.Log(harness.ErrorText(r))
		r.Failed(t, sandbox)
		again := harness.Upload(t, sandbox, "resource="+j.resource, j.input)
		again.Succeeded(t)
		j.isRight(t, sandbox, again)
	}
	if t.Failed() {
		t.Logf("%s:\n%s\n%s", time.Since(began).Round(time.Millisecond), s, harness.WithoutMasks(r.Log))
	}
	return r
}

// isRight fails the test unless the outputs are right, there is one revision, and an image in the registry is
// complete.
func (j faultyJob) isRight(t *testing.T, sandbox *server.Server, r harness.Result) {
	t.Helper()
	r.HasOutputs(t, j.want)
	made := sandbox.Revisions(harness.Charm, j.resource)
	if len(made) != 1 || j.sha256 != "" && made[0].SHA256 != j.sha256 {
		t.Errorf("revisions %+v, want one with the content %s", made, j.sha256)
	}
	if j.resource != harness.ImageResource {
		return
	}
	repository, username, password := sandbox.RegistryAuth(harness.Charm, harness.ImageResource)
	ref, err := name.NewDigest(repository + "@" + r.Outputs["remote-digest"])
	if err != nil {
		t.Fatal(err)
	}
	// A token of the run's length of life may expire while a busy machine reads the image.
	for range 20 {
		if err = validateRemote(ref, &authn.Basic{Username: username, Password: password}); !isUnauthorized(err) {
			break
		}
	}
	if err != nil {
		t.Errorf("what is in the registry: %v", err)
	}
}

// validateRemote reads an image and checks that it is whole.
func validateRemote(ref name.Reference, login authn.Authenticator) error {
	image, err := remote.Image(ref, remote.WithAuth(login))
	if err != nil {
		return err
	}
	return validate.Image(image)
}

// isUnauthorized reports whether a registry refused a token. validate.Image keeps no more of its errors than the text.
func isUnauthorized(err error) bool {
	return err != nil && strings.Contains(err.Error(), "UNAUTHORIZED")
}

// schedule is what goes wrong in one run, by the number of the request at which
// it does, over all servers.
type schedule struct {
	tokenLife time.Duration
	events    map[int64]event

	requests atomic.Int64
	mu       sync.Mutex
	faults   []string
	heal     []func()
}

// event is a fault of the request itself, or one of a server's connections from
// then on for a while.
type event struct {
	fault      *server.Fault
	on         string // the server whose connections are disturbed
	connection *faultproxy.Fault
	heals      time.Duration
}

// newSchedule returns schedule n of a seed. The same numbers always give the same schedule.
func newSchedule(seed, n uint64) *schedule {
	random := rand.New(rand.NewPCG(seed, n))
	s := &schedule{tokenLife: 5 * time.Minute, events: map[int64]event{}}
	if random.IntN(3) == 0 {
		s.tokenLife = time.Second
	}
	for range 1 + random.IntN(4) {
		e := event{fault: harness.RandomFault(random)}
		if random.IntN(2) == 0 {
			e = randomConnectionFault(random)
		}
		s.events[1+random.Int64N(30)] = e
	}
	return s
}

// randomConnectionFault returns a random fault of one server's connections, which heals within about a second.
func randomConnectionFault(random *rand.Rand) event {
	milliseconds := func(upTo int) time.Duration { return time.Duration(random.IntN(upTo)) * time.Millisecond }
	what := harness.Pick(random,
		faultproxy.Fault{Kind: faultproxy.Latency, Time: milliseconds(200), Jitter: 50 * time.Millisecond},
		faultproxy.Fault{Kind: faultproxy.Bandwidth, Bytes: 200_000 + random.IntN(2_000_000)},
		faultproxy.Fault{Kind: faultproxy.Slices, Bytes: 300, Time: time.Duration(random.IntN(100)) * time.Microsecond},
		faultproxy.Fault{Kind: faultproxy.Reset, Time: milliseconds(100)},
		faultproxy.Fault{Kind: faultproxy.Silence, Time: 50*time.Millisecond + milliseconds(300)},
		faultproxy.Fault{Kind: faultproxy.Silence}, // half-open until it heals
		faultproxy.Fault{Kind: faultproxy.Limit, Bytes: 1 + random.IntN(300_000)},
		faultproxy.Fault{Kind: faultproxy.SlowClose, Time: milliseconds(200)},
	)
	what.Downstream = harness.Pick(random, false, true)
	return event{
		on: harness.Pick(random, "store", "storage", "registry", "registry", "auth"), connection: &what,
		heals: time.Duration(50+random.IntN(1000)) * time.Millisecond,
	}
}

// start returns what decides for each request of the run.
func (s *schedule) start(all harness.Proxies) func(server.Request) *server.Fault {
	return func(r server.Request) *server.Fault {
		n := s.requests.Add(1)
		e, ok := s.events[n]
		if !ok {
			return nil
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.faults = append(s.faults, fmt.Sprintf("request %d, %s: %s", n, r, e))
		if e.connection != nil {
			heal := all[e.on].Add(*e.connection)
			time.AfterFunc(e.heals, heal)
			s.heal = append(s.heal, heal)
		}
		return e.fault
	}
}

// stop heals all connections that are still disturbed.
func (s *schedule) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, heal := range s.heal {
		heal()
	}
}

// String tells what happened.
func (s *schedule) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("bearer tokens for %s\n%s", s.tokenLife, strings.Join(s.faults, "\n"))
}

func (e event) String() string {
	if e.connection != nil {
		return fmt.Sprintf("connections to the %s for %s: %+v", e.on, e.heals, *e.connection)
	}
	return fmt.Sprintf("%+v", *e.fault)
}
