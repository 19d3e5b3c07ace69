package dirs

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// entry is one of an archive. A name that ends with a slash is a directory.
type entry struct {
	name, content string
	typ           byte
	link          string
}

func archive(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, e := range entries {
		if e.typ == tar.TypeXGlobalHeader {
			if err := w.WriteHeader(&tar.Header{Typeflag: e.typ, PAXRecords: map[string]string{"comment": e.name}}); err != nil {
				t.Fatal(err)
			}
			continue
		}
		header := &tar.Header{Name: e.name, Typeflag: e.typ, Linkname: e.link, Mode: 0o755, Size: int64(len(e.content)), ModTime: time.Unix(1e9, 0), Format: tar.FormatPAX}
		if e.typ == 0 {
			header.Typeflag = tar.TypeReg
			if strings.HasSuffix(e.name, "/") {
				header.Typeflag = tar.TypeDir
			}
		}
		if err := w.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

// listing reads an archive's names, of files with content.
func listing(t *testing.T, r io.Reader) []string {
	t.Helper()
	var names []string
	for in := tar.NewReader(r); ; {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		name := header.Name
		if len(content) > 0 {
			name += "=" + string(content)
		}
		names = append(names, name)
	}
}

// TestLayerRoundTrip: what WriteLayer says of two trees makes one of the other.
func TestLayerRoundTrip(t *testing.T) {
	dir := t.TempDir()
	lower, upper, again := filepath.Join(dir, "lower"), filepath.Join(dir, "upper"), filepath.Join(dir, "again")
	put(t, lower, map[string]string{
		"same": "s", "changed": "before", "touched": "t", "gone": "g", "dir/gone": "g", "dir/same": "s", "gone-dir/a": "a", "gone-dir/b/c": "c",
		"file-to-dir": "f", "dir-to-file/x": "x", "deep/1/2/3/same": "s", "empty": "",
	})
	for _, to := range []string{upper, again} {
		put(t, to, files(t, lower))
		for name := range files(t, lower) { // as after a copy
			info, err := os.Stat(filepath.Join(lower, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(filepath.Join(to, name), time.Time{}, info.ModTime()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range []string{"gone", "dir/gone", "gone-dir", "file-to-dir", "dir-to-file"} {
		if err := os.RemoveAll(filepath.Join(upper, name)); err != nil {
			t.Fatal(err)
		}
	}
	put(t, upper, map[string]string{
		"changed": "after!", "new": "n", "dir/new": "n", "file-to-dir/inside": "i", "dir-to-file": "d", "deep/1/2/3/new": "n", "new-dir/": "", "Ünï ©ode": "u",
	})
	long := strings.TrimSuffix(strings.Repeat("a-rather-long-name/", 20), "/") + "/file"
	put(t, upper, map[string]string{long: "long"})
	var first, second bytes.Buffer
	if err := errors.Join(WriteLayer(t.Context(), &first, lower, upper), WriteLayer(t.Context(), &second, lower, upper)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same trees give two archives")
	}
	names := listing(t, bytes.NewReader(first.Bytes()))
	for _, want := range []string{"Files/", "Files/.wh.gone", "Files/dir/", "Files/dir/.wh.gone", "Files/dir/new=n", "Files/changed=after!", "Files/.wh.gone-dir", "Files/new-dir/"} {
		if !slices.Contains(names, want) {
			t.Errorf("the layer has no %q", want)
		}
	}
	for _, name := range names {
		if strings.Contains(name, "same") || strings.Contains(name, "touched") || strings.HasPrefix(name, "Files/empty") {
			t.Errorf("the layer has %q", name)
		}
	}
	if err := Apply(t.Context(), bytes.NewReader(first.Bytes()), again); err != nil {
		t.Fatal(err)
	}
	same(t, again, files(t, upper))
	if err := Changes(t.Context(), upper, again, true, func(c Change) error {
		t.Errorf("after unpacking there is a difference: %+v", c)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// A write that leaves size and time as they were is found by an exact comparison,
// and only by that.
func TestChangesExact(t *testing.T) {
	dir := t.TempDir()
	lower, upper := filepath.Join(dir, "lower"), filepath.Join(dir, "upper")
	put(t, lower, map[string]string{"a": strings.Repeat("x", 300<<10), "b": "b"})
	put(t, upper, map[string]string{"a": strings.Repeat("x", 300<<10-1) + "y", "b": "b"})
	for _, name := range []string{"a", "b"} {
		for _, tree := range []string{lower, upper} {
			if err := os.Chtimes(filepath.Join(tree, name), time.Time{}, time.Unix(1e9, 0)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for exact, want := range map[bool]int{true: 1, false: 0} {
		found := 0
		if err := Changes(t.Context(), lower, upper, exact, func(Change) error { found++; return nil }); err != nil || found != want {
			t.Errorf("exact %t: %d changes, %v", exact, found, err)
		}
	}
}

// Layers as other tools make them.
func TestApply(t *testing.T) {
	lower := map[string]string{"a": "a", "d/x": "x", "d/y": "y", "e/z": "z"}
	for name, test := range map[string]struct {
		layer []entry
		want  map[string]string
	}{
		"nothing":            {nil, map[string]string{"a": "a", "d/": "", "d/x": "x", "d/y": "y", "e/": "", "e/z": "z"}},
		"no directories":     {[]entry{{name: "Files/n/m/f", content: "f"}}, map[string]string{"a": "a", "d/": "", "d/x": "x", "d/y": "y", "e/": "", "e/z": "z", "n/": "", "n/m/": "", "n/m/f": "f"}},
		"registry passed":    {[]entry{{name: "Hives/"}, {name: "Hives/System_Delta", content: "h"}, {name: "UtilityVM/Files/x", content: "x"}, {name: "./Files/a", content: "b"}}, map[string]string{"a": "b", "d/": "", "d/x": "x", "d/y": "y", "e/": "", "e/z": "z"}},
		"whiteouts":          {[]entry{{name: "Files/.wh.a"}, {name: "Files/d/.wh.x"}, {name: "Files/.wh.e"}, {name: "Files/.wh.never"}}, map[string]string{"d/": "", "d/y": "y"}},
		"opaque":             {[]entry{{name: "Files/d/"}, {name: "Files/d/new", content: "n"}, {name: "Files/d/.wh..wh..opq"}}, map[string]string{"a": "a", "d/": "", "d/new": "n", "e/": "", "e/z": "z"}},
		"whiteout of own":    {[]entry{{name: "Files/a", content: "new"}, {name: "Files/.wh.a"}}, map[string]string{"a": "new", "d/": "", "d/x": "x", "d/y": "y", "e/": "", "e/z": "z"}},
		"file over dir":      {[]entry{{name: "Files/d", content: "d"}}, map[string]string{"a": "a", "d": "d", "e/": "", "e/z": "z"}},
		"dir over file":      {[]entry{{name: "Files/a/"}, {name: "Files/a/b", content: "b"}}, map[string]string{"a/": "", "a/b": "b", "d/": "", "d/x": "x", "d/y": "y", "e/": "", "e/z": "z"}},
		"parent over file":   {[]entry{{name: "Files/a/b", content: "b"}}, map[string]string{"a/": "", "a/b": "b", "d/": "", "d/x": "x", "d/y": "y", "e/": "", "e/z": "z"}},
		"hard link":          {[]entry{{name: "Files/l", typ: tar.TypeLink, link: "Files/d/x"}}, map[string]string{"a": "a", "l": "x", "d/": "", "d/x": "x", "d/y": "y", "e/": "", "e/z": "z"}},
		"twice":              {[]entry{{name: "Files/a", content: "1"}, {name: "Files/a", content: "2"}}, map[string]string{"a": "2", "d/": "", "d/x": "x", "d/y": "y", "e/": "", "e/z": "z"}},
		"a global header":    {[]entry{{name: "g", typ: tar.TypeXGlobalHeader}}, map[string]string{"a": "a", "d/": "", "d/x": "x", "d/y": "y", "e/": "", "e/z": "z"}},
		"own dir whited out": {[]entry{{name: "Files/e/"}, {name: "Files/.wh.e"}}, map[string]string{"a": "a", "d/": "", "d/x": "x", "d/y": "y", "e/": "", "e/z": "z"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, dir, lower)
			if err := Apply(t.Context(), bytes.NewReader(archive(t, test.layer...)), dir); err != nil {
				t.Fatal(err)
			}
			same(t, dir, test.want)
		})
	}
}

// Every kind of entry that Windows would take for something else, or that would be
// written outside of the tree, is refused by name, and nothing outside changes.
func TestApplyRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		layer []entry
		why   string
	}{
		"device":              {[]entry{{name: "Files/d/NUL", content: "x"}}, "device NUL"},
		"device with suffix":  {[]entry{{name: "Files/com1.txt", content: "x"}}, "device COM1"},
		"device directory":    {[]entry{{name: "Files/aux/x", content: "x"}}, "device AUX"},
		"console":             {[]entry{{name: "Files/conin$", content: "x"}}, "device CONIN$"},
		"superscript":         {[]entry{{name: "Files/LPT³", content: "x"}}, "device LPT³"},
		"trailing dot":        {[]entry{{name: "Files/a.", content: "x"}}, "dot or space"},
		"trailing space":      {[]entry{{name: "Files/d /x", content: "x"}}, "dot or space"},
		"stream":              {[]entry{{name: "Files/a:hidden", content: "x"}}, "alternate data stream"},
		"data stream":         {[]entry{{name: "Files/a::$DATA", content: "x"}}, "alternate data stream"},
		"drive":               {[]entry{{name: "Files/C:/x", content: "x"}}, "alternate data stream"},
		"backslash":           {[]entry{{name: `Files/..\..\x`, content: "x"}}, "not allow"},
		"other case":          {[]entry{{name: "Files/Readme", content: "x"}, {name: "Files/README", content: "y"}}, "both are the same"},
		"other case of a dir": {[]entry{{name: "Files/Data/x", content: "x"}, {name: "Files/data/y", content: "y"}}, "both are the same"},
		"up":                  {[]entry{{name: "Files/../../x", content: "x"}}, "leads out"},
		"up within":           {[]entry{{name: "Files/d/../x", content: "x"}}, "leads out"},
		"no layer":            {[]entry{{name: "bin/sh", content: "x"}}, "no layer of an image for Windows"},
		"files in small":      {[]entry{{name: "files/x", content: "x"}}, "no layer of an image for Windows"},
		"hard link out":       {[]entry{{name: "Files/l", typ: tar.TypeLink, link: "../../outside"}}, "leads out"},
		"hard link elsewhere": {[]entry{{name: "Files/l", typ: tar.TypeLink, link: "etc/passwd"}}, "no layer of an image"},
		"hard link to device": {[]entry{{name: "Files/l", typ: tar.TypeLink, link: "Files/nul"}}, "device NUL"},
		"character device":    {[]entry{{name: "Files/dev", typ: tar.TypeChar}}, "only files"},
		"fifo":                {[]entry{{name: "Files/fifo", typ: tar.TypeFifo}}, "only files"},
		"root is a file":      {[]entry{{name: "Files", content: "x"}}, "root can only be"},
		"whiteout of a name":  {[]entry{{name: "Files/.wh.nul"}}, "device NUL"},
		"whiteout of the dot": {[]entry{{name: "Files/.wh.."}}, "not the name"},
		"whiteout of up":      {[]entry{{name: "Files/.wh..."}}, "not the name"},
		"too long a name":     {[]entry{{name: "Files/" + strings.Repeat("x", 256), content: "x"}}, "255"},
		"no UTF-8":            {[]entry{{name: "Files/a\xff", content: "x"}}, "UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			outer := t.TempDir()
			dir := filepath.Join(outer, "in", "tree")
			put(t, dir, map[string]string{"a": "a", "d/x": "x"})
			put(t, outer, map[string]string{"outside": "o"})
			err := Apply(t.Context(), bytes.NewReader(archive(t, test.layer...)), dir)
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), test.why) {
				t.Errorf("got %v, want %s", err, test.why)
			}
			got := files(t, outer)
			for name := range got {
				if !strings.HasPrefix(name, "in/") && name != "outside" {
					t.Errorf("%s was made", name)
				}
			}
			if got["outside"] != "o" || got["in/tree/a"] != "a" {
				t.Errorf("the files are %q", got)
			}
		})
	}
}

// A link that leads out of the tree is not followed by what comes after it.
func TestApplyBehindLinks(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links need a right on Windows and do not work under Wine")
	}
	for _, target := range []string{"../outside", "/", ".."} {
		outer := t.TempDir()
		dir := filepath.Join(outer, "tree")
		put(t, outer, map[string]string{"tree/": "", "outside/": ""})
		err := Apply(t.Context(), bytes.NewReader(archive(t, entry{name: "Files/l", typ: tar.TypeSymlink, link: target}, entry{name: "Files/l/x", content: "x"})), dir)
		if err == nil {
			t.Errorf("a file was written through a link to %s", target)
		}
		same(t, filepath.Join(outer, "outside"), map[string]string{})
	}
}

// Names that differ only in case are, across layers, the same file on Windows.
func TestApplyOtherCaseOfLowerLayer(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, map[string]string{"Readme": "lower", "Data/x": "x"})
	err := Apply(t.Context(), bytes.NewReader(archive(t, entry{name: "Files/README", content: "upper"}, entry{name: "Files/data/y", content: "y"})), dir)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"README": "upper", "Data/": "", "Data/x": "x", "Data/y": "y"}
	if runtime.GOOS != "windows" {
		want = map[string]string{"Readme": "lower", "README": "upper", "Data/": "", "Data/x": "x", "data/": "", "data/y": "y"}
	}
	same(t, dir, want)
}

func TestWriteLayerRefuses(t *testing.T) {
	for _, name := range []string{".wh.x", "d/.wh.x"} {
		dir := t.TempDir()
		put(t, dir, map[string]string{name: "x"})
		if err := WriteLayer(t.Context(), io.Discard, "", dir); !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if runtime.GOOS == "windows" {
		return
	}
	dir := t.TempDir()
	put(t, dir, map[string]string{"d/nul": "x"})
	if err := WriteLayer(t.Context(), io.Discard, "", dir); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "d/nul") {
		t.Error(err)
	}
}

func TestWrap(t *testing.T) {
	for name, test := range map[string]struct {
		in   []entry
		want []string
	}{
		"plain":          {[]entry{{name: "./"}, {name: "./a", content: "a"}, {name: "d/"}, {name: "/d/b", content: "b"}, {name: "l", typ: tar.TypeLink, link: "./a"}}, []string{"Files/", "Files/", "Files/a=a", "Files/d/", "Files/d/b=b", "Files/l"}},
		"layer":          {[]entry{{name: "Files/"}, {name: "Files/a", content: "a"}}, []string{"Files/", "Files/a=a"}},
		"a file of that": {[]entry{{name: "Files", content: "f"}}, []string{"Files/", "Files/Files=f"}},
		"empty":          {nil, nil},
	} {
		wrapped := Wrap(bytes.NewReader(archive(t, test.in...)))
		if got := listing(t, wrapped); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
		if err := wrapped.Close(); err != nil {
			t.Error(err)
		}
	}
	damaged := Wrap(strings.NewReader(strings.Repeat("no archive", 100)))
	if _, err := io.ReadAll(damaged); !errors.Is(err, tar.ErrHeader) {
		t.Errorf("got %v", err)
	}
	// Who stops reading leaves no goroutine behind: Close ends it, or the race
	// detector and the next line would wait for it.
	early := Wrap(bytes.NewReader(archive(t, entry{name: "a", content: strings.Repeat("x", 1<<20)})))
	if err := early.Close(); err != nil {
		t.Error(err)
	}
}

func FuzzApply(f *testing.F) {
	f.Add("Files/d/x", "Files/../x", "link")
	f.Add("Files/nul", "Files/A", "Files/a")
	f.Fuzz(func(t *testing.T, one, two, link string) {
		outer := t.TempDir()
		dir := filepath.Join(outer, "tree")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		var buffer bytes.Buffer
		w := tar.NewWriter(&buffer)
		for _, header := range []*tar.Header{
			{Name: one, Typeflag: tar.TypeReg, Mode: 0o644}, {Name: two, Typeflag: tar.TypeSymlink, Linkname: link}, {Name: two + "/x", Typeflag: tar.TypeReg, Mode: 0o644},
		} {
			if w.WriteHeader(header) != nil {
				return
			}
		}
		if w.Close() != nil {
			return
		}
		_ = Apply(t.Context(), &buffer, dir) // may fail, and may not leave the tree
		if entries, err := os.ReadDir(outer); err != nil || len(entries) != 1 {
			t.Errorf("the directory beside the tree has %v, %v", entries, err)
		}
	})
}
