package winpath

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestCheckName(t *testing.T) {
	for _, name := range []string{
		"a", "a.txt", ".git", "...a", "con1", "console", "COM", "COM10", "com¹0", "LPT", "aux2", "nula.txt", "a~1", "ÄÖ", "日本", "a;b", "a'b", "$Recycle",
		strings.Repeat("x", 255), strings.Repeat("é", 255), "CONIN", "conout",
	} {
		if err := CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for name, why := range map[string]string{
		"": "not the name", ".": "not the name", "..": "not the name",
		"CON": "device CON", "con": "device CON", "Nul.txt": "device NUL", "nul .txt": "device NUL", "aux.tar.gz": "device AUX", "prn": "device PRN",
		"COM1": "device COM1", "com9.log": "device COM9", "LPT0": "device LPT0", "com²": "device COM²", "CONIN$": "device CONIN$", "conout$.x": "device CONOUT$",
		"a.": "dot or space", "a ": "dot or space", "...": "dot or space", "a:b": "alternate data stream", "a::$DATA": "alternate data stream",
		"a/b": "not allow '/'", `a\b`: `not allow '\\'`, "a*": "not allow '*'", "a?": "not allow '?'", "a|b": "not allow '|'", `a"`: `not allow '"'`,
		"a<": "not allow '<'", "a\nb": `not allow '\n'`, "a\x00": `not allow '\x00'`, "a\xff": "UTF-8", strings.Repeat("x", 256): "255",
		strings.Repeat("🙂", 128): "255",
	} {
		err := CheckName(name)
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: got %v, want %s", name, err, why)
		}
	}
}

func TestCheckPath(t *testing.T) {
	for path, ok := range map[string]bool{
		".": true, "a/b/c": true, "a//b": false, "/a": false, "a/../b": false, "a/nul": false, "": false,
		strings.Repeat("x/", 16000) + "y": true, strings.Repeat("x/", 17000) + "y": false,
	} {
		if err := CheckPath(path); (err == nil) != ok {
			t.Errorf("%.20q: %v", path, err)
		}
	}
}

func TestFold(t *testing.T) {
	for _, pair := range [][2]string{{"readme.TXT", "README.txt"}, {"äö", "ÄÖ"}, {"a/B", "A/b"}} {
		if Fold(pair[0]) != Fold(pair[1]) {
			t.Errorf("%q and %q are the same on Windows", pair[0], pair[1])
		}
	}
	for _, pair := range [][2]string{{"a", "b"}, {"ß", "SS"}, {"𐐨", "𐐀"}} {
		if Fold(pair[0]) == Fold(pair[1]) {
			t.Errorf("%q and %q are not the same on Windows", pair[0], pair[1])
		}
	}
}

func TestInside(t *testing.T) {
	for path, want := range map[string]string{
		`C:\data`: "data", `c:/data/sub/`: "data/sub", `\data`: "data", "/data": "data", `C:\`: ".", "/": ".", `C:\a\..\b\.\c`: "b/c", `C:\..\..\x`: "x",
		`C:\a\\b`: "a/b",
	} {
		got, err := Inside(path)
		if err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %q", path, got, err, want)
		}
		if again, err := Inside(Absolute(got)); err != nil || again != got {
			t.Errorf("%q: there and back gives %q, %v", path, again, err)
		}
	}
	for _, path := range []string{"", "data", "C:", "C:data", `D:\data`, `\\server\share`, `C:\nul`, `C:\a:b`, `\\?\C:\x`, `C:\a.\b`} {
		if got, err := Inside(path); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: got %q, %v", path, got, err)
		}
	}
	for path, want := range map[string]bool{`C:\x`: true, "c:/": true, `\\s\x`: true, "C:x": false, `\x`: false, "/x": false, "x": false, `\\\x`: false} {
		if IsAbs(path) != want {
			t.Errorf("IsAbs(%q) is %t", path, !want)
		}
	}
}

func FuzzInside(f *testing.F) {
	f.Add(`C:\data`)
	f.Add("/a/../b")
	f.Fuzz(func(t *testing.T, path string) {
		inside, err := Inside(path)
		if err != nil {
			return
		}
		if err := CheckPath(inside); err != nil {
			t.Errorf("%q became %q: %v", path, inside, err)
		}
		if again, err := Inside(Absolute(inside)); err != nil || again != inside {
			t.Errorf("%q: there and back gives %q, %v", path, again, err)
		}
	})
}
