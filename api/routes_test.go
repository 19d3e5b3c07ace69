package api

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestEveryRouteHasAClass(t *testing.T) {
	classes := []Class{
		ClassRead, ClassWatch, ClassInterrupt, ClassShare,
		ClassTransition, ClassCreate, ClassSharedObject, ClassSweep,
	}
	seen := map[string]bool{}
	for _, rt := range new(Server).routes() {
		key := rt.method + " " + rt.path
		if !slices.Contains(classes, rt.class) {
			t.Errorf("%s has class %q", key, rt.class)
		}
		if rt.handle == nil {
			t.Errorf("%s has no handler", key)
		}
		if seen[key] {
			t.Errorf("%s is there twice", key)
		}
		seen[key] = true
		if rt.class == ClassRead && rt.method == "PUT" {
			t.Errorf("%s cannot only read", key)
		}
	}
	// What must never wait behind a stop.
	for _, path := range []string{"/containers/{name}/kill", "/containers/{name}/resize", "/exec/{name}/resize"} {
		for _, rt := range new(Server).routes() {
			if rt.path == path && rt.class != ClassInterrupt {
				t.Errorf("%s has class %s", path, rt.class)
			}
		}
	}
}

// TestEveryDocumentedEndpointIsRouted compares the routes with the API's own
// description.
func TestEveryDocumentedEndpointIsRouted(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/moby/moby/api").Output()
	if err != nil {
		t.Skipf("cannot find the API's description: %v", err)
	}
	f, err := os.Open(filepath.Join(strings.TrimSpace(string(out)), "swagger.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	routed := map[string]bool{}
	for _, rt := range new(Server).routes() {
		routed[rt.method+" "+rt.path] = true
	}
	var (
		pathLine   = regexp.MustCompile(`^  "?(/[^"]*?)"?:$`)
		methodLine = regexp.MustCompile(`^    (get|post|put|delete|head):$`)
		parameter  = regexp.MustCompile(`\{[a-zA-Z]+\}`)
		inPaths    bool
		path       string
		documented int
	)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := lines.Text()
		if line == "paths:" {
			inPaths = true
		} else if m := pathLine.FindStringSubmatch(line); inPaths && m != nil {
			path = parameter.ReplaceAllString(m[1], "{name}")
		} else if m := methodLine.FindStringSubmatch(line); inPaths && m != nil {
			documented++
			if key := strings.ToUpper(m[1]) + " " + path; !routed[key] {
				t.Errorf("%s is not routed", key)
			}
		}
	}
	if documented < 90 {
		t.Errorf("only %d endpoints were found in the description", documented)
	}
}
