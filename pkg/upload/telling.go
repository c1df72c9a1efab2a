package upload

import (
	"io"
	"sync/atomic"

	"github.com/charmhub-actions/upload-resource/pkg/action"
)

// group starts a part of the log that a reader can fold, and returns what ends
// it. Resources that are uploaded at once would tear each other's groups apart,
// so they have none. What came of the work is for the lines outside of groups.
func (j *job) group(title string) (end func()) {
	if j.Metadata != "" {
		return func() {}
	}
	return j.runner.Group(title)
}

// progress names the resource where there are several.
func (j *job) progress(what string, total int64) *action.Progress {
	if name := j.log.Name(); name != "" {
		what = name + ": " + what
	}
	return j.runner.Progress(what, total)
}

// counted tells what is read of a content. One that is opened anew is sent from
// its start.
func counted(open func() (io.ReadCloser, error), progress *action.Progress) func() (io.ReadCloser, error) {
	var read atomic.Int64
	return func() (io.ReadCloser, error) {
		file, err := open()
		progress.Add(-read.Swap(0))
		return countedFile{file, &read, progress}, err
	}
}

type countedFile struct {
	io.ReadCloser
	read     *atomic.Int64
	progress *action.Progress
}

func (f countedFile) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	f.read.Add(int64(n))
	f.progress.Add(int64(n))
	return n, err
}
