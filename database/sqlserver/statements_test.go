package sqlserver

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// statements are all statements of the package, as docs/sqlserver.md writes them.
func statements() []statement {
	return []statement{
		version(),
		recovering(),
		userDatabases(),
		use("name"),
		checkpoint(),
		files(),
		attach("name", []string{`C:\x.mdf`, `C:\x.ldf`}, false),
		attach("name", []string{`C:\x.mdf`}, true),
		asyncStatistics("name"),
		setAsyncStatistics("name", false),
		setAsyncStatistics("name", true),
		singleUser("name"),
		multiUser("name"),
		detach("name"),
		orphans(),
		mapUser("user", "login"),
		regenerateServiceKey(false),
		regenerateServiceKey(true),
		setPassword("sa", "…"),
		enableLogin("sa"),
		suspend(),
		resume(),
		shutdown(false),
		shutdown(true),
		moveFile("tempdb", "file", `C:\x.mdf`),
		moveFile("name", "file", `C:\x.mdf`),
		jobs(),
		disableJob("name"),
		mailProfiles(),
		stopMail(),
		linkedServers(),
		serverOptionOff("name", "option"),
		endpoints(),
		stopEndpoint("name"),
		startProcedures(),
	}
}

// TestDocumented holds the table of statements and pages in the documentation against the code.
func TestDocumented(t *testing.T) {
	data, err := os.ReadFile("../../docs/sqlserver.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(data), "| statement | page |\n|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	var want []string
	for _, st := range statements() {
		want = append(want, "| `"+st.text+"` | "+string(st.page)+" |")
		if !strings.HasSuffix(st.text, ";") {
			t.Errorf("the client may take this for the name of a procedure: %s", st.text)
		}
	}
	if diff := cmp.Diff(want, strings.Split(table, "\n")); diff != "" {
		t.Error(diff)
	}
	for _, a := range advices {
		if a.class == nil || a.says == "" {
			t.Errorf("error %d has no advice", a.number)
		}
	}
}

// TestEveryStatementIsListed finds a statement that was added to the code and not to the list.
func TestEveryStatementIsListed(t *testing.T) {
	data, err := os.ReadFile("statements.go")
	if err != nil {
		t.Fatal(err)
	}
	functions := strings.Count(string(data), ") statement {")
	// attach, setAsyncStatistics, regenerateServiceKey, shutdown and moveFile have two forms each.
	if listed := len(statements()) - 5; functions != listed {
		t.Errorf("%d functions make statements, %d are listed", functions, listed)
	}
}
