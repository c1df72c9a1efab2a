package docs

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// GitHub shows no form that it can't read, and says so nowhere.
func TestIssueForms(t *testing.T) {
	forms, err := fs.Glob(root, ".github/ISSUE_TEMPLATE/*.yml")
	if err != nil || len(forms) < 2 {
		t.Fatalf("forms %v: %v", forms, err)
	}
	for _, path := range forms {
		if filepath.Base(path) == "config.yml" {
			continue
		}
		var form struct {
			Name, Description string
			Labels            []string
			Body              []struct {
				Type, ID   string
				Attributes struct {
					Label, Description, Value, Placeholder, Render string
					Options                                        []string
				}
				Validations struct{ Required bool }
			}
		}
		fields := yaml.NewDecoder(strings.NewReader(read(t, path)))
		fields.KnownFields(true)
		if err := fields.Decode(&form); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if form.Name == "" || form.Description == "" || len(form.Body) == 0 {
			t.Errorf("%s lacks a name, a description or fields", path)
		}
		var ids []string
		for _, field := range form.Body {
			switch {
			case field.Type == "markdown":
				if field.Attributes.Value == "" {
					t.Errorf("%s has a markdown field without a value", path)
				}
				continue
			case !slices.Contains([]string{"textarea", "input", "dropdown"}, field.Type):
				t.Errorf("%s: there are no fields of type %q", path, field.Type)
			case field.Attributes.Label == "" || slices.Contains(ids, field.ID):
				t.Errorf("%s: field %q has no label, or another field has its ID", path, field.ID)
			case (field.Type == "dropdown") != (len(field.Attributes.Options) > 0):
				t.Errorf("%s: field %q has options and is no dropdown, or the other way round", path, field.ID)
			}
			ids = append(ids, field.ID)
		}
	}
}
