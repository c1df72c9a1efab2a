// Package docs tests that the documents and the program say the same.
package docs

import "os"

// root is the repository, whose documents name files relative to it. The tests read files through it and don't change
// the working directory, or go test wouldn't see which files they read, and would print results of older documents from
// its cache.
var root = os.DirFS("../..")
