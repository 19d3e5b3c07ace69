package sqlinstance_test

import (
	"io/fs"
	"strings"
	"testing"

	"slipway/internal/sqlinstance"
	"slipway/internal/sqlinstance/sqlinstancetest"

	"github.com/google/go-cmp/cmp"
)

const express = sqlinstance.Root + `\MSSQL15.SQLEXPRESS`

func set(r *sqlinstancetest.Registry, key, name string, v any) {
	if err := r.SetValues(key, map[string]any{name: v}); err != nil {
		panic(err)
	}
}

func TestFind(t *testing.T) {
	r := sqlinstancetest.Express2019()
	r.Install("MSSQLSERVER", "MSSQL16.MSSQLSERVER", "16.0.1000.6", "Developer Edition")
	// A patch, a trace flag, several ports and a cluster, as on a server that is used.
	set(r, sqlinstance.Root+`\MSSQL16.MSSQLSERVER\Setup`, "PatchLevel", "16.0.4135.4")
	set(r, sqlinstance.Root+`\MSSQL16.MSSQLSERVER\MSSQLServer\Parameters`, "SQLArg3", "-T1118")
	set(r, sqlinstance.Root+`\MSSQL16.MSSQLSERVER\MSSQLServer\SuperSocketNetLib\Tcp\IPAll`, "TcpPort", " 1433, 1533")
	set(r, sqlinstance.Root+`\MSSQL16.MSSQLSERVER\Cluster`, "ClusterName", "SQLC")
	found, problems, err := sqlinstance.Find(r)
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	dir := `C:\Program Files\Microsoft SQL Server\MSSQL`
	want := []sqlinstance.Instance{
		{
			Name: "MSSQLSERVER", ID: "MSSQL16.MSSQLSERVER", Version: "16.0.4135.4", Edition: "Developer Edition", Collation: "SQL_Latin1_General_CP1_CI_AS",
			Binn: dir + `16.MSSQLSERVER\MSSQL\Binn`, DataRoot: dir + `16.MSSQLSERVER\MSSQL`,
			Master: dir + `16.MSSQLSERVER\MSSQL\DATA\master.mdf`, MasterLog: dir + `16.MSSQLSERVER\MSSQL\DATA\mastlog.ldf`,
			ErrorLog: dir + `16.MSSQLSERVER\MSSQL\Log\ERRORLOG`, Flags: []string{"-T1118"}, TCP: true, Port: 1433, Clustered: true,
		},
		{
			Name: "SQLEXPRESS", ID: "MSSQL15.SQLEXPRESS", Version: "15.0.2000.5", Edition: "Express Edition", Collation: "SQL_Latin1_General_CP1_CI_AS",
			Binn: dir + `15.SQLEXPRESS\MSSQL\Binn`, DataRoot: dir + `15.SQLEXPRESS\MSSQL`,
			Master: dir + `15.SQLEXPRESS\MSSQL\DATA\master.mdf`, MasterLog: dir + `15.SQLEXPRESS\MSSQL\DATA\mastlog.ldf`,
			ErrorLog: dir + `15.SQLEXPRESS\MSSQL\Log\ERRORLOG`, TCP: true,
		},
	}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Error(diff)
	}
	if got := found[1].Templates(); got != dir+`15.SQLEXPRESS\MSSQL\Binn\Templates` {
		t.Error(got)
	}
}

func TestFindNothing(t *testing.T) {
	found, problems, err := sqlinstance.Find(sqlinstancetest.New())
	if len(found) > 0 || len(problems) > 0 || err != nil {
		t.Error(found, problems, err)
	}
}

func TestFindDamaged(t *testing.T) {
	for name, test := range map[string]struct {
		damage  func(*sqlinstancetest.Registry)
		found   int
		problem string
	}{
		"no keys of the instance": {func(r *sqlinstancetest.Registry) { _ = r.DeleteKey(express) }, 0, "instance SQLEXPRESS"},
		"an ID that is a path":    {func(r *sqlinstancetest.Registry) { set(r, sqlinstance.InstanceNames, "SQLEXPRESS", `..\X`) }, 0, "is not one"},
		"an ID that is a number":  {func(r *sqlinstancetest.Registry) { set(r, sqlinstance.InstanceNames, "SQLEXPRESS", uint64(1)) }, 0, "is not one"},
		"no place of programs": {func(r *sqlinstancetest.Registry) {
			_ = r.DeleteValue(express+`\Setup`, "SQLBinRoot")
			_ = r.DeleteValue(express+`\Setup`, "SQLPath")
		}, 0, "where its programs are"},
		"only the instance's directory":   {func(r *sqlinstancetest.Registry) { _ = r.DeleteValue(express+`\Setup`, "sqlbinroot") }, 1, ""},
		"no arguments, no network at all": {func(r *sqlinstancetest.Registry) { _ = r.DeleteKey(express + `\MSSQLServer`) }, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := sqlinstancetest.Express2019()
			test.damage(r)
			found, problems, err := sqlinstance.Find(r)
			if err != nil || len(found) != test.found {
				t.Fatal(found, err)
			}
			if (test.problem != "") != (len(problems) == 1) || len(problems) == 1 && !strings.Contains(problems[0].Error(), test.problem) {
				t.Error(problems)
			}
			if test.found == 1 && !strings.HasSuffix(found[0].Binn, `\MSSQL\Binn`) {
				t.Error(found[0].Binn)
			}
		})
	}
}

// broken is a registry that cannot be read.
type broken struct{ *sqlinstancetest.Registry }

func (broken) Values(string) (map[string]any, error) { return nil, fs.ErrPermission }

func TestFindUnreadable(t *testing.T) {
	if _, _, err := sqlinstance.Find(broken{}); err == nil {
		t.Error("a registry that cannot be read has no instances")
	}
}
