package job

import (
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

func TestInside(t *testing.T) {
	for path, want := range map[string]string{
		"": ".", ".": ".", `\`: ".", "/": ".", `C:\`: ".", "c:": ".",
		`C:\app\bin`: `app\bin`, `c:/app/bin/`: `app\bin`, "/app//bin": `app\bin`, `app\.\bin`: `app\bin`,
		`C:\a\..\b`: "b", `..\..\b`: "b", `C:\..\..\Windows`: "Windows", `a\..`: ".",
		"mit Umlaut ä": "mit Umlaut ä", "console": "console", "com10": "com10", `.hidden`: ".hidden", "a.b.c": "a.b.c",
	} {
		if got, err := Inside(path); err != nil || got != want {
			t.Errorf("Inside(%q) = %q, %v; want %q", path, got, err, want)
		}
	}
	for _, path := range []string{
		`D:\x`, `\\server\share`, `//server/share`, `\\?\C:\x`, `\\.\pipe\x`, `\??\C:\x`,
		"con", `a\NUL.txt`, "COM1", "lpt9.log", "com²", "CONIN$", "aux .txt",
		"a:stream", `a\b:$DATA`, "a.", "a ", `a.\b`, "a<b", "a|b", "a?", "a*", "a\"b", "a\x01", "a\x00",
	} {
		if got, err := Inside(path); !errdefs.IsInvalidArgument(err) {
			t.Errorf("Inside(%q) = %q, %v; want it refused", path, got, err)
		}
	}
}

// FuzzInside holds that nothing leads out of a root.
func FuzzInside(f *testing.F) {
	for _, seed := range []string{`C:\a\..\..\b`, `..\x`, `\\x`, "a:b", "con.txt"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got, err := Inside(path)
		if err != nil {
			return
		}
		parts := strings.Split(got, `\`)
		if slices.Contains(parts, "..") || slices.Contains(parts, "") || strings.ContainsAny(got, ":/\x00") {
			t.Errorf("Inside(%q) = %q", path, got)
		}
		if again, err := Inside(got); err != nil || again != got {
			t.Errorf("Inside(%q) = %q, and of that %q, %v", path, got, again, err)
		}
	})
}

func TestExpand(t *testing.T) {
	for in, want := range map[string]string{
		"":                                    "",
		`%CONTAINER_ROOT%\data`:               `C:\r\data`,
		`-D %container_root%;%Container_Root`: `-D C:\r;%Container_Root`,
		"%CONTAINER_ROOT%%CONTAINER_ROOT%":    `C:\rC:\r`,
		"%PATH%":                              "%PATH%",
		"ſ%CONTAINER_ROOT%":                   `ſC:\r`,
	} {
		if got := Expand(in, `C:\r`); got != want {
			t.Errorf("Expand(%q) = %q, want %q", in, got, want)
		}
	}
	// What is put in is not looked at again.
	if got := Expand("%CONTAINER_ROOT%", "%CONTAINER_ROOT%x"); got != "%CONTAINER_ROOT%x" {
		t.Errorf("got %q", got)
	}
}

func TestEnvironment(t *testing.T) {
	got := Environment(`C:\r`,
		[]string{`SYSTEMROOT=C:\Windows`, "SECRET=1", `Path=C:\engine`, "=C:=C:\\here", "Temp=C:\\engine"},
		[]string{"path=C:\\bin;%CONTAINER_ROOT%\\bin", "A=1", "a=2", "USERNAME", "B==x", "EMPTY=", "container_root=X", ""})
	want := []string{
		"a=2",
		`APPDATA=C:\r\Users\ContainerUser\AppData\Roaming`,
		"B==x",
		`CONTAINER_ROOT=C:\r`,
		"EMPTY=",
		"HOMEDRIVE=C:",
		`HOMEPATH=\r\Users\ContainerUser`,
		`LOCALAPPDATA=C:\r\Users\ContainerUser\AppData\Local`,
		`path=C:\bin;C:\r\bin`,
		`SystemRoot=C:\Windows`,
		`TEMP=C:\r\Users\ContainerUser\AppData\Local\Temp`,
		`TMP=C:\r\Users\ContainerUser\AppData\Local\Temp`,
		`USERPROFILE=C:\r\Users\ContainerUser`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := Lookup(got, "PATH"); got != `C:\bin;C:\r\bin` {
		t.Errorf("PATH is %q", got)
	}
	plain := Environment(`C:\r`, []string{`SystemRoot=D:\Win`}, nil)
	if got := Lookup(plain, "path"); got != `D:\Win\System32;D:\Win;D:\Win\System32\Wbem;D:\Win\System32\WindowsPowerShell\v1.0` {
		t.Errorf("PATH is %q", got)
	}
}
