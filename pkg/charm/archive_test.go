package charm

import (
	"archive/zip"
	"bytes"
	"crypto/sha3"
	"encoding/hex"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// entry is a file of an archive.
type entry struct {
	name, text string
	mode       fs.FileMode
}

var (
	metadataEntry = entry{name: "metadata.yaml", text: "name: my-charm\nresources:\n  a: {type: oci-image}\n  b: {type: " +
		"file, optional: true}\n"}
	manifestEntry = entry{name: "manifest.yaml", text: "charmcraft-version: 4.0.0\nbases:\n- {name: ubuntu, channel: " +
		"'24.04', architectures: [amd64, arm64]}\n- {name: ubuntu, channel: '22.04', architectures: [amd64]}\n"}
)

// packed returns a zip archive with the entries.
func packed(tb testing.TB, entries ...entry) []byte {
	tb.Helper()
	var b bytes.Buffer
	archive := zip.NewWriter(&b)
	for _, e := range entries {
		header := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		header.SetMode(e.mode | 0o644)
		w, err := archive.CreateHeader(header)
		if err == nil {
			_, err = w.Write([]byte(e.text))
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestReadArchive(t *testing.T) {
	file := packed(t, entry{name: "src/charm.py", text: "pass"}, metadataEntry, manifestEntry,
		entry{name: "sub/metadata.yaml", text: "name: other"})
	got, err := ReadArchive(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha3.Sum384(file)
	want := Archive{
		Metadata: Metadata{Name: "my-charm", Resources: map[string]Resource{"a": {Type: TypeImage},
			"b": {Type: TypeFile, Optional: true}}},
		Bases: []Base{{"ubuntu", "24.04", "amd64"}, {"ubuntu", "24.04", "arm64"}, {"ubuntu", "22.04", "amd64"}},
		SHA3:  hex.EncodeToString(sum[:]),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("archive (-want +got):\n%s", diff)
	}
}

func TestReadBases(t *testing.T) {
	got,
		err := readBases(strings.NewReader("a: &a [amd64]\nbases:\n- {name: ubuntu, channel: 22.10, architectures: *a}\n"))
	if diff := cmp.Diff([]Base{{"ubuntu", "22.10", "amd64"}}, got); err != nil || diff != "" {
		t.Errorf("bases (-want +got), error %v:\n%s", err, diff)
	}
}

func TestHostileArchives(t *testing.T) {
	huge := strings.Repeat(" ", 4<<20) // packs to a thousandth
	many := make([]entry, 17_000)
	for n := range many {
		many[n].name = fmt.Sprintf("%01000d", n)
	}
	unknown := packed(t, metadataEntry, manifestEntry)
	unknown[bytes.Index(unknown, []byte("PK\x01\x02"))+10] = 99
	whole := packed(t, metadataEntry, manifestEntry)
	for name, test := range map[string]struct {
		file []byte
		want string
	}{
		"nothing":       {nil, "not a valid zip file"},
		"text":          {[]byte("name: my-charm\n"), "not a valid zip file"},
		"the beginning": {whole[:len(whole)/2], "not a valid zip file"},
		"no metadata":   {packed(t, manifestEntry), "no metadata.yaml in the archive"},
		"no manifest":   {packed(t, metadataEntry), "no manifest.yaml in the archive"},
		"no name": {packed(t, entry{name: "metadata.yaml", text: "{}"}, manifestEntry),
			"metadata.yaml: no name"},
		"no name that can be": {packed(t, entry{name: "metadata.yaml", text: "name: ../x"}, manifestEntry), `"../x"`},
		"a link": {packed(t, entry{"metadata.yaml", "/etc/passwd", fs.ModeSymlink}, manifestEntry),
			"metadata.yaml is no regular file"},
		"a folder": {packed(t, metadataEntry, entry{"manifest.yaml", "", fs.ModeDir}),
			"manifest.yaml is no regular file"},
		"two of a name": {packed(t, metadataEntry, manifestEntry,
			entry{name: "metadata.yaml", text: "name: other"}), "metadata.yaml is in the archive twice"},
		"a bomb for metadata": {packed(t, entry{name: "metadata.yaml", text: huge}, manifestEntry),
			"more than 1048576 bytes"},
		"a bomb for a manifest": {packed(t, metadataEntry, entry{name: "manifest.yaml", text: huge}),
			"more than 1048576 bytes"},
		"a bomb of aliases": {packed(t, metadataEntry, entry{name: "manifest.yaml", text: bomb(24) + "bases: *y0\n"}),
			"a base is a list"},
		"two manifests in one": {packed(t, metadataEntry,
			entry{name: "manifest.yaml", text: manifestEntry.text + "---\nbases: []\n"}),
			"manifest.yaml: line 5: a second document begins"},
		"bases twice": {packed(t, metadataEntry,
			entry{name: "manifest.yaml", text: manifestEntry.text + "bases: []\n"}), `the key "bases" is there twice`},
		"no architecture": {packed(t, metadataEntry,
			entry{name: "manifest.yaml", text: "bases: [{name: a, channel: b, architectures: [vax]}]"}), `"vax"`},
		"no bases": {packed(t, metadataEntry,
			entry{name: "manifest.yaml", text: "charmcraft-version: 4.0.0\n"}), "manifest.yaml: no bases"},
		"an empty list of bases": {packed(t, metadataEntry, entry{name: "manifest.yaml", text: "bases: []\n"}),
			"manifest.yaml: no bases"},
		"a base without a name": {packed(t, metadataEntry,
			entry{name: "manifest.yaml", text: manifestEntry.text + "- {channel: '22.04', architectures: [amd64]}\n"}),
			"line 5: a base lacks its name, channel or architectures"},
		"a base without a channel": {packed(t, metadataEntry,
			entry{name: "manifest.yaml", text: "bases: [{name: ubuntu, architectures: [amd64]}]"}),
			"a base lacks its name, channel or architectures"},
		"without architectures": {packed(t, metadataEntry,
			entry{name: "manifest.yaml", text: manifestEntry.text + "- {name: ubuntu, channel: '22.04'}\n"}),
			"a base lacks its name, channel or architectures"},
		"a base that is null": {packed(t, metadataEntry, entry{name: "manifest.yaml", text: manifestEntry.text + "-\n"}),
			"a base lacks its name, channel or architectures"},
		"bases that are none": {packed(t, metadataEntry, entry{name: "manifest.yaml", text: "bases: ubuntu"}),
			"manifest.yaml"},
		"too many files":           {packed(t, many...), "directory has more than 16777216 bytes"},
		"packed in an unknown way": {unknown, "unsupported compression algorithm"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ReadArchive(bytes.NewReader(test.file), int64(len(test.file)))
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "charmcraft pack") {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	if _, err := ReadArchive(endless{}, 1<<40); err == nil ||
		!strings.Contains(err.Error(), "more than 1073741824 bytes") {
		t.Error(err)
	}
}

// endless is what must not be read.
type endless struct{}

func (endless) ReadAt([]byte, int64) (int, error) { panic("it is read") }

// FuzzReadArchive: whatever the file is, what is read of it can be passed on.
func FuzzReadArchive(f *testing.F) {
	f.Add(packed(f, metadataEntry, manifestEntry))
	f.Add(packed(f, entry{name: "metadata.yaml", text: "name: x"}, entry{name: "manifest.yaml", text: "bases: null"}))
	f.Add(packed(f, entry{"metadata.yaml", "x", fs.ModeSymlink}))
	f.Add([]byte("PK\x05\x06" + strings.Repeat("\xff", 18)))
	f.Fuzz(func(t *testing.T, file []byte) {
		a, err := ReadArchive(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			return
		}
		if CheckName(a.Name) != nil || len(a.SHA3) != 96 {
			t.Errorf("name %q, digest %q", a.Name, a.SHA3)
		}
		for _, base := range a.Bases {
			if CheckArchitecture(base.Architecture) != nil {
				t.Errorf("base %q", base)
			}
		}
	})
}
