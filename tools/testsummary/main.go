// Testsummary reads the output of one or more `go test -json` runs on standard
// input, shows packages as they end and tests as they fail, and closes with the
// number of tests and the reasons of those that were skipped:
//
//	go test -json ./... | testsummary
//
// It exits with status 1 if a test, a package or a build failed, or if no test
// ran at all.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

func main() {
	s := newSummary(os.Stdout)
	if err := s.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testsummary:", err)
		os.Exit(1)
	}
	if !s.close() {
		os.Exit(1)
	}
}

// event is what `go test -json` writes, see `go doc test2json`.
type event struct {
	Action     string
	Package    string
	ImportPath string // of build-output and build-fail
	Test       string
	Output     string
	Elapsed    float64 // seconds
}

type testID struct{ pkg, test string }

type summary struct {
	out     io.Writer
	output  map[testID][]string // what a test that has not ended yet has printed
	parents map[testID]bool     // tests with subtests: these are counted instead
	results map[string][]testID // by action: pass, fail, skip
	reasons map[string]int      // of skipped tests
	said    map[testID][]string // what failed tests logged, the first line of each message
	broken  []string            // packages that failed apart from their tests
}

func newSummary(out io.Writer) *summary {
	return &summary{
		out:     out,
		output:  map[testID][]string{},
		parents: map[testID]bool{},
		results: map[string][]testID{},
		reasons: map[string]int{},
		said:    map[testID][]string{},
	}
}

func (s *summary) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) == nil && e.Action != "" {
				s.add(e)
			} else {
				fmt.Fprint(s.out, line) // not from the tests: go's own messages
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *summary) add(e event) {
	id := testID{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(s.out, e.Output)
	case "run":
		if i := strings.LastIndexByte(e.Test, '/'); i >= 0 {
			s.parents[testID{e.Package, e.Test[:i]}] = true
		}
	case "output":
		s.output[id] = append(s.output[id], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.endPackage(e)
		} else {
			s.endTest(id, e)
		}
		delete(s.output, id)
	}
}

func (s *summary) endTest(id testID, e event) {
	s.results[e.Action] = append(s.results[e.Action], id)
	switch e.Action {
	case "fail":
		s.said[id] = messages(s.output[id])
		fmt.Fprintf(s.out, "\n--- FAIL %s %s (%.1fs)\n%s\n", e.Package, e.Test, e.Elapsed, strings.Join(s.output[id], ""))
	case "skip":
		s.reasons[skipReason(s.output[id])]++
	}
}

func (s *summary) endPackage(e event) {
	took := time.Duration(e.Elapsed * float64(time.Second)).Round(100 * time.Millisecond)
	switch e.Action {
	case "skip": // no test files
		return
	case "pass":
		fmt.Fprintf(s.out, "ok    %-40s %s\n", e.Package, took)
		return
	}
	// A package can fail without any failed test: it does not compile, exits
	// early, finds a data race after the last test, runs out of time.
	failed := slices.ContainsFunc(s.results["fail"], func(id testID) bool { return id.pkg == e.Package })
	if !failed {
		s.broken = append(s.broken, e.Package)
		fmt.Fprint(s.out, strings.Join(s.output[testID{e.Package, ""}], ""))
	}
	// A panic or the time limit ends tests without a result of their own.
	for _, id := range slices.SortedFunc(maps.Keys(s.output), byName) {
		if id.pkg == e.Package && id.test != "" {
			fmt.Fprintf(s.out, "\n--- not ended: %s %s\n%s\n", id.pkg, id.test, strings.Join(s.output[id], ""))
			delete(s.output, id)
			if !failed {
				s.results["fail"] = append(s.results["fail"], id)
			}
		}
	}
	fmt.Fprintf(s.out, "FAIL  %-40s %s\n", e.Package, took)
}

// close prints the totals and reports whether everything is well.
func (s *summary) close() bool {
	count := func(action string) int {
		n := 0
		for _, id := range s.results[action] {
			// A parent that fails by itself has no failed subtest to stand for it.
			if !s.parents[id] || action == "fail" && !s.childFailed(id) {
				n++
			}
		}
		return n
	}
	passed, failed, skipped := count("pass"), count("fail"), count("skip")

	fmt.Fprintln(s.out)
	for _, reason := range slices.SortedFunc(maps.Keys(s.reasons), func(a, b string) int {
		return cmp.Or(s.reasons[b]-s.reasons[a], cmp.Compare(a, b))
	}) {
		fmt.Fprintf(s.out, "skipped %d: %s\n", s.reasons[reason], reason)
	}
	for _, id := range s.results["fail"] {
		fmt.Fprintf(s.out, "failed: %s %s\n", id.pkg, id.test)
		for _, message := range s.said[id] {
			fmt.Fprintf(s.out, "    %s\n", message)
		}
	}
	for _, pkg := range s.broken {
		fmt.Fprintf(s.out, "failed: %s (the package itself)\n", pkg)
	}
	fmt.Fprintf(s.out, "%d tests: %d passed, %d failed, %d skipped\n", passed+failed+skipped, passed, failed, skipped)
	return failed == 0 && len(s.broken) == 0 && passed > 0
}

func (s *summary) childFailed(parent testID) bool {
	return slices.ContainsFunc(s.results["fail"], func(id testID) bool {
		return id.pkg == parent.pkg && strings.HasPrefix(id.test, parent.test+"/")
	})
}

func byName(a, b testID) int { return cmp.Or(cmp.Compare(a.pkg, b.pkg), cmp.Compare(a.test, b.test)) }

// sourceLine is how the testing package begins a log line.
var sourceLine = regexp.MustCompile(`^\s+\S+\.go:\d+: `)

// messages are the first lines of what a test logged. A test's whole output can be
// as long as a daemon's log, and whoever sees only the end of a run is to know why
// it failed.
func messages(output []string) []string {
	const most, longest = 12, 400 // messages, bytes
	var list []string
	for _, line := range output {
		if !sourceLine.MatchString(line) {
			continue
		}
		if line = strings.TrimSpace(line); len(line) > longest {
			line = line[:longest] + "…"
		}
		if list = append(list, line); len(list) == most {
			break
		}
	}
	return list
}

// skipReason is the last thing a test logged before it skipped itself.
func skipReason(output []string) string {
	reason := "no reason given"
	for _, line := range output {
		if sourceLine.MatchString(line) {
			reason = strings.TrimSpace(sourceLine.ReplaceAllString(line, ""))
		}
	}
	return reason
}
