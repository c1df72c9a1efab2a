package uploads

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/charmhub-actions/upload-resource/e2e/harness"
	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

const (
	// rudeSchedules are a share of what UPLOAD_RESOURCE_E2E_SCHEDULES=300 runs: what differs from TestFaultSchedules is
	// the sandbox alone.
	rudeSchedules = 24
	// rudeRuns are the runs until one has to end well. A registry that refuses a token in passing ends a run.
	rudeRuns = 5
)

// TestFaultSchedulesUnderRude: also where Charmhub by itself lags, times out and fails in passing, a run ends right or
// in an error and without a revision, and a later one ends right.
func TestFaultSchedulesUnderRude(t *testing.T) {
	t.Parallel()
	harness.EachRegistry(t, func(t *testing.T, options server.Options) {
		t.Helper()
		rude, err := server.Profile(server.Rude)
		if err != nil {
			t.Fatal(err)
		}
		rude.Registry = options.Registry
		usual := int64(rudeSchedules)
		if options.Registry != "" {
			usual /= 2
		}
		job := newFaultyJobs(t)
		var schedules, failed atomic.Int64
		harness.EachSchedule(t, usual, func(t *testing.T, seed, n uint64) { //nolint:thelper // the body of a subtest
			schedules.Add(1)
			failed.Add(job[n%uint64(len(job))].runUntilRight(t, rude, newSchedule(seed, n)))
		})
		t.Logf("%d runs ended in an error, in %d schedules", failed.Load(), schedules.Load())
	})
}

// runUntilRight runs the job, first by a schedule but for its life of tokens, until it ends well, and returns how many
// runs didn't.
func (j faultyJob) runUntilRight(t *testing.T, options server.Options, s *schedule) (failed int64) {
	t.Helper()
	sandbox, all := harness.StartBehindProxies(t, options)
	sandbox.Fault(s.start(all))
	for range rudeRuns {
		ctx, cancel := context.WithTimeout(t.Context(), harness.ScheduleTime)
		r := harness.UploadContext(ctx, t, sandbox, "resource="+j.resource, j.input)
		if ctx.Err() != nil {
			t.Errorf("not done after %s:\n%s\n%s", harness.ScheduleTime, s, harness.WithoutMasks(r.Log))
		}
		cancel()
		sandbox.Fault(nil)
		s.stop()
		if r.Exit == 0 {
			sandbox.Fault(func(server.Request) *server.Fault { return &server.Fault{} }) // who judges meets no failure
			j.isRight(t, sandbox, r)
			if t.Failed() {
				t.Logf("%s\n%s", s, harness.WithoutMasks(r.Log))
			}
			return failed
		}
		t.Log(harness.ErrorText(r))
		r.Failed(t, sandbox)
		failed++
	}
	t.Errorf("no run of %d ended well:\n%s", rudeRuns, s)
	return failed
}
