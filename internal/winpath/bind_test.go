package winpath

import (
	"slices"
	"strings"
	"testing"
)

func TestSplitBind(t *testing.T) {
	for bind, want := range map[string][]string{
		`C:\x:C:\y`:               {`C:\x`, `C:\y`},
		`c:/x:d:\y:ro`:            {`c:/x`, `d:\y`, "ro"},
		`name:C:\y`:               {"name", `C:\y`},
		`name:C:\y:rw`:            {"name", `C:\y`, "rw"},
		`C:\y`:                    {`C:\y`},
		`C:\x:/y`:                 {`C:\x`, "/y"},
		`v:/y`:                    {"v:/y"}, // a drive
		`vv:/y`:                   {"vv", "/y"},
		`\\server\share:C:\y`:     {`\\server\share`, `C:\y`},
		`\\.\pipe\a:\\.\pipe\b`:   {`\\.\pipe\a`, `\\.\pipe\b`},
		`\\?\C:\x:C:\y`:           {`\\?\C:\x`, `C:\y`},
		`C:\x:C:`:                 {`C:\x`, "C:"},
		`C:\x:C:\y:ro:more`:       {`C:\x`, `C:\y`, "ro", "more"},
		"":                        {""},
		":":                       {"", ""},
		`C:\with space:C:\y a:rw`: {`C:\with space`, `C:\y a`, "rw"},
	} {
		if got := SplitBind(bind); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", bind, got, want)
		}
	}
}

func FuzzSplitBind(f *testing.F) {
	f.Add(`C:\x:C:\y:ro`)
	f.Fuzz(func(t *testing.T, bind string) {
		if got := strings.Join(SplitBind(bind), ":"); got != bind {
			t.Errorf("%q became %q", bind, got)
		}
	})
}
