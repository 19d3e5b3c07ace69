package testutil

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestNeverRun: the tests that need a real Windows are those that docs/windows.md
// says were never run, with the same reasons.
func TestNeverRun(t *testing.T) {
	root := filepath.Join("..", "..")
	doc, err := os.ReadFile(filepath.Join(root, "docs", "windows.md"))
	if err != nil {
		t.Skip("the sources are not at hand") // a test program that was copied elsewhere
	}
	_, list, found := strings.Cut(string(doc), "\n## Tests never run\n")
	if !found {
		t.Fatal("docs/windows.md has no list of tests never run")
	}
	var listed []string
	for line := range strings.Lines(list) {
		if strings.HasPrefix(line, "| `") {
			listed = append(listed, strings.TrimSpace(line))
		}
	}
	slices.Sort(listed)
	if diff := cmp.Diff(neverRun(t, root), listed); diff != "" {
		t.Errorf("docs/windows.md, tests never run (-code +document):\n%s", diff)
	}
}

// neverRun finds the calls of NeedsRealWindows, as lines of the document.
func neverRun(t *testing.T, root string) []string {
	t.Helper()
	reasons := wineLacks(t)
	var rows []string
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "bin" || d.Name() == ".git") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(file, "_test.go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		for _, decl := range parsed.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				if why, ok := realWindowsCall(n); ok {
					rows = append(rows, fmt.Sprintf("| `%s` | `%s` | %s |", path.Clean(filepath.ToSlash(dir)), fn.Name.Name, reasons[why]))
				}
				return true
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(rows)
	return rows
}

// realWindowsCall returns the constant that testutil.NeedsRealWindows is called with.
func realWindowsCall(n ast.Node) (why string, ok bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok || len(call.Args) != 2 {
		return "", false
	}
	callee, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || callee.Sel.Name != "NeedsRealWindows" {
		return "", false
	}
	reason, ok := call.Args[1].(*ast.SelectorExpr)
	if !ok {
		return "", false
	}
	return reason.Sel.Name, true
}

// wineLacks is the text of each constant.
func wineLacks(t *testing.T) map[string]string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), "windows.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	ast.Inspect(parsed, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
			if text, ok := spec.Values[0].(*ast.BasicLit); ok {
				texts[spec.Names[0].Name] = strings.Trim(text.Value, `"`)
			}
		}
		return true
	})
	return texts
}
