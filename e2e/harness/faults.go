package harness

import (
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/charmhub-actions/upload-resource/e2e/sandbox/server"
)

// How many schedules of faults a test runs, and for how long each may last.
const (
	Schedules    = 200
	atOnce       = 16 // runs; they wait more than they work
	ScheduleTime = 90 * time.Second
)

// EachSchedule runs the usual number of fault schedules, several at once, and returns when all have ended.
// UPLOAD_RESOURCE_E2E_SEED replays the schedules of another run, UPLOAD_RESOURCE_E2E_SCHEDULE one of them alone, and
// UPLOAD_RESOURCE_E2E_SCHEDULES runs more or fewer than usual.
func EachSchedule(t *testing.T, usual int64, run func(t *testing.T, seed, n uint64)) {
	t.Helper()
	number := numberFrom(t, "UPLOAD_RESOURCE_E2E_SCHEDULES", usual)
	seed := numberFrom(t, "UPLOAD_RESOURCE_E2E_SEED", time.Now().UnixNano())
	alone := numberFrom(t, "UPLOAD_RESOURCE_E2E_SCHEDULE", -1)
	t.Logf("UPLOAD_RESOURCE_E2E_SEED=%d", seed)
	var wg sync.WaitGroup
	turns := make(chan struct{}, atOnce)
	for n := range number {
		if alone >= 0 && alone != n {
			continue
		}
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			t.Run(strconv.FormatInt(n, 10), func(t *testing.T) { run(t, uint64(seed), uint64(n)) })
		})
	}
	wg.Wait()
}

// numberFrom returns the number that an environment variable holds, or otherwise if the variable is empty. It fails
// the test if the text isn't a number.
func numberFrom(t *testing.T, variable string, otherwise int64) int64 {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return number
}

// Pick returns one of the values at random.
func Pick[T any](random *rand.Rand, from ...T) T { return from[random.IntN(len(from))] }

// GatewayPage is a gateway's page about an error, with text that tries to be more than text.
const GatewayPage = "<html><head><title>502 Bad Gateway</title></head><body>::error::no command\x1b[31m</body></html>"

// RandomFault returns an answer or a broken connection, at random.
func RandomFault(random *rand.Rand) *server.Fault {
	switch random.IntN(6) {
	case 0:
		return &server.Fault{Status: Pick(random, 500, 502, 503, 504), Body: GatewayPage, Handle: random.IntN(2) == 0}
	case 1:
		return &server.Fault{
			Status: Pick(random, 429, 503), Header: http.Header{"Retry-After": {Pick(random, "0", "1")}},
			Body: `{"error-list":[{"code":null,"message":"Too many requests"}]}`,
		}
	case 2:
		return &server.Fault{Drop: true, Handle: random.IntN(2) == 0}
	case 3:
		return &server.Fault{AfterBytes: 1 + random.Int64N(400_000)}
	case 4:
		return &server.Fault{Delay: time.Duration(random.IntN(500)) * time.Millisecond}
	default:
		return &server.Fault{Status: Pick(random, 400, 403, 404, 408, 409),
			Body: `{"error-list":[{"code":"no","message":"No."}]}`}
	}
}

// Once tells who is first.
type Once struct{ taken atomic.Bool }

// First reports whether this is its first call.
func (o *Once) First() bool { return o.taken.CompareAndSwap(false, true) }
