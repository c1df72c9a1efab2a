package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDocComments fails for each function, each type, and each exported constant or variable that has no doc comment.
// It reads the helpers of tests, too, but not the test functions themselves.
func TestDocComments(t *testing.T) {
	files := token.NewFileSet()
	err := fs.WalkDir(root, ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") {
			return err
		}
		file, err := parser.ParseFile(files, path, read(t, path), parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, name := range undocumented(file) {
			t.Errorf("%s: %s has no doc comment", files.Position(name.Pos()), name.Name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestUndocumented checks the rules of TestDocComments: a name with Missing in it needs a comment, and so does a method
// Close of an exported type.
func TestUndocumented(t *testing.T) {
	const text = `package p

func missing1() {}
func (T) missing2() {}
func (*unexported) missing3() {}
func (T) Close() {}
func (unexported) Close() {}
func (*unexported) Read() {}
func TestSomething() {}
func FuzzSomething() {}
func main() {}

// Documented is.
func Documented() {}

type missing4 struct{}
type unexported struct{} // is on its line

// T is.
type T struct{}

const Missing5, unexportedConst = 1, 2

const (
	Missing6 = 1
	// Commented is.
	Commented = 2
	Beside    = 3 // is, too
)

// These are.
const (
	Grouped = 1
)
`
	file, err := parser.ParseFile(token.NewFileSet(), "", text, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, name := range undocumented(file) {
		got = append(got, name.Name)
	}
	want := []string{"missing1", "missing2", "missing3", "Close", "missing4", "Missing5", "Missing6"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names without a comment (-want +got):\n%s", diff)
	}
}

// undocumented returns the names that a file declares without a doc comment, and that need one.
func undocumented(file *ast.File) (names []*ast.Ident) {
	for _, declared := range file.Decls {
		switch declared := declared.(type) {
		case *ast.FuncDecl:
			if declared.Doc == nil && !explained(declared) {
				names = append(names, declared.Name)
			}
		case *ast.GenDecl:
			if declared.Doc == nil {
				for _, spec := range declared.Specs {
					names = append(names, undocumentedIn(spec)...)
				}
			}
		}
	}
	return names
}

// undocumentedIn returns the names of one type, constant or variable declaration. A comment on its line is enough.
func undocumentedIn(spec ast.Spec) []*ast.Ident {
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		if spec.Doc == nil && spec.Comment == nil {
			return []*ast.Ident{spec.Name}
		}
	case *ast.ValueSpec:
		if spec.Doc == nil && spec.Comment == nil {
			return slices.DeleteFunc(slices.Clone(spec.Names), func(name *ast.Ident) bool { return !name.IsExported() })
		}
	}
	return nil
}

// standardMethods are methods of interfaces in Go's standard library.
var standardMethods = strings.Fields(
	"Accept Addr Close Error Header Is Read ReadAt RoundTrip ServeHTTP String Unwrap Write WriteHeader")

// explained reports whether a function needs no comment: a test has its name, main its package's comment, and the
// standard interface explains a method by which an unexported type implements it.
func explained(f *ast.FuncDecl) bool {
	if f.Recv == nil {
		return f.Name.Name == "main" || slices.ContainsFunc([]string{"Test", "Benchmark", "Fuzz", "Example"},
			func(kind string) bool { return strings.HasPrefix(f.Name.Name, kind) })
	}
	receiver := f.Recv.List[0].Type
	if pointer, ok := receiver.(*ast.StarExpr); ok {
		receiver = pointer.X
	}
	name, ok := receiver.(*ast.Ident)
	return ok && !name.IsExported() && slices.Contains(standardMethods, f.Name.Name)
}
