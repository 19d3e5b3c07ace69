package container

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	mobycontainer "github.com/moby/moby/api/types/container"
)

func TestParsePS(t *testing.T) {
	for name, test := range map[string]struct {
		out  string
		want mobycontainer.TopResponse
		err  string
	}{
		"a command with blanks": {
			out: "  PID   USER COMMAND\n    7 root sh -c  a b\n    8 root other\n   12 app [kernel]\n",
			want: mobycontainer.TopResponse{Titles: []string{"PID", "USER", "COMMAND"}, Processes: [][]string{
				{"7", "root", "sh -c a b"}, {"12", "app", "[kernel]"},
			}},
		},
		"threads": {
			out: "USER PID TID COMMAND\nroot 6 - no\nroot - 6 -\nroot 7 - yes\nroot - 7 -\nroot - 9 -\n",
			want: mobycontainer.TopResponse{Titles: []string{"USER", "PID", "TID", "COMMAND"}, Processes: [][]string{
				{"root", "7", "-", "yes"}, {"root", "-", "7", "-"}, {"root", "-", "9", "-"},
			}},
		},
		"fewer fields than titles": {
			out:  "PID TTY COMMAND\n7\n",
			want: mobycontainer.TopResponse{Titles: []string{"PID", "TTY", "COMMAND"}, Processes: [][]string{{"7"}}},
		},
		// A name that a container gave itself does not make a column.
		"no blank of ASCII": {
			out:  "PID COMMAND\n7 a\u00a0b\n",
			want: mobycontainer.TopResponse{Titles: []string{"PID", "COMMAND"}, Processes: [][]string{{"7", "a\u00a0b"}}},
		},
		"no PID":           {out: "TTY\nx\n", err: "Couldn't find PID field in ps output"},
		"nothing":          {out: "", err: "Couldn't find PID field in ps output"},
		"not a process ID": {out: "PID\nx\n", err: `Unexpected pid 'x': strconv.Atoi: parsing "x": invalid syntax`},
	} {
		got, err := parsePS(test.out, []int{7, 12})
		if test.err != "" {
			if err == nil || err.Error() != test.err {
				t.Errorf("%s: error %v, want %s", name, err, test.err)
			}
			continue
		}
		if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
}

func TestCheckPSArgs(t *testing.T) {
	for args, ok := range map[string]bool{
		"-ef": true, "-o pid": true, "-o pid=PID": true, "axo pid=PIDX,comm": true, "  ": true, "-o pid,comm=COMMAND": true,
		"-o ppid=PID": false, "-o\tcomm=PID2": false, "-e -o pid,comm=PID": false, "-o comm=\tPID": false, "-ocomm=PID": false,
	} {
		if err := checkPSArgs(args); (err == nil) != ok {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func FuzzParsePS(f *testing.F) {
	f.Add("  PID   USER COMMAND\n    7 root sh -c  a b\n")
	f.Add("COMMAND PID\n\n-\n")
	f.Fuzz(func(t *testing.T, out string) {
		list, err := parsePS(out, []int{7})
		if err != nil {
			return
		}
		for _, process := range list.Processes {
			if len(process) > len(list.Titles) {
				t.Errorf("%q has more fields than %q", process, list.Titles)
			}
		}
	})
}
