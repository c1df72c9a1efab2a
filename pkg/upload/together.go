package upload

import (
	"strings"

	"github.com/charmhub-actions/upload-resource/pkg/parallel"
)

// together runs independent steps at once, waits for all, and returns the
// error of the first in the list that failed: the one that explains the others,
// and the same one each time.
func together(steps ...func() error) error {
	errs := make([]error, len(steps))
	var group parallel.Group
	for i, step := range steps {
		group.Go(func() error { errs[i] = step(); return nil })
	}
	_ = group.Wait() // the errors are in their order in errs
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// list joins names for a sentence.
func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
