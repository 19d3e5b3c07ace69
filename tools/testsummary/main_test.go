package main

import (
	"strings"
	"testing"
)

func TestSummary(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, input, want string
		ok                bool
	}{
		{"all well", `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p"}`, "1 tests: 1 passed, 0 failed, 0 skipped", true},
		{"subtests stand for their parent", `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"run","Package":"p","Test":"TestA/x"}
{"Action":"fail","Package":"p","Test":"TestA/x"}
{"Action":"run","Package":"p","Test":"TestA/y"}
{"Action":"pass","Package":"p","Test":"TestA/y"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}`, "2 tests: 1 passed, 1 failed, 0 skipped", false},
		{"a parent fails by itself", `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"run","Package":"p","Test":"TestA/x"}
{"Action":"pass","Package":"p","Test":"TestA/x"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}`, "2 tests: 1 passed, 1 failed, 0 skipped", false},
		{"skip reason", `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:7: needs root\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
{"Action":"run","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p"}`, "skipped 1: needs root\n2 tests: 1 passed, 0 failed, 1 skipped", true},
		{"does not compile", `{"ImportPath":"p","Action":"build-output","Output":"p/x.go:1: undefined\n"}
{"ImportPath":"p","Action":"build-fail"}
{"Action":"fail","Package":"p","FailedBuild":"p"}`, "failed: p (the package itself)", false},
		{"panics", `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"panic: out of time\n"}
{"Action":"fail","Package":"p"}`, "failed: p TestA", false},
		{"the end says why", `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:7: got 1\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"        a long log\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}`, "failed: p TestA\n    a_test.go:7: got 1\n1 tests:", false},
		{"nothing ran", ``, "0 tests: 0 passed", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			s := newSummary(&out)
			if err := s.read(strings.NewReader(tt.input)); err != nil {
				t.Fatal(err)
			}
			if ok := s.close(); ok != tt.ok {
				t.Errorf("well: %v, want %v", ok, tt.ok)
			}
			if !strings.Contains(out.String(), tt.want) {
				t.Errorf("got\n%s\nwant %q", out.String(), tt.want)
			}
		})
	}
}
