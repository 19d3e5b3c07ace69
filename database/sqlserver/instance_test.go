package sqlserver

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"slipway/internal/sqlinstance"
	"slipway/internal/sqlinstance/sqlinstancetest"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

func express(t *testing.T, r *sqlinstancetest.Registry) sqlinstance.Instance {
	t.Helper()
	found, problems, err := sqlinstance.Find(r)
	if err != nil || len(problems) > 0 || len(found) == 0 {
		t.Fatal(found, problems, err)
	}
	return found[0]
}

func TestInstances(t *testing.T) {
	r := sqlinstancetest.Express2019()
	before := r.Dump()
	origin := express(t, r)
	one := Instance{Name: InstanceName("0123456789abcdef0123"), Origin: origin, Root: `C:\slipway\one`, Port: 50001, Flags: []string{"-T1118"}}
	two := Instance{Name: InstanceName("fedcba9876543210"), Origin: origin, Root: `C:\slipway\two`, Port: 50002}
	for _, i := range []Instance{one, two, one} { // once more, as after a crash
		if err := i.Register(r); err != nil {
			t.Fatal(err)
		}
	}
	found, problems, err := sqlinstance.Find(r)
	if err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
	want := []sqlinstance.Instance{
		origin,
		{
			Name: "SW_0123456789ABC", ID: "MSSQL15.SW_0123456789ABC", Version: origin.Version, Edition: origin.Edition, Collation: origin.Collation,
			Binn: `C:\slipway\one\MSSQL\Binn`, DataRoot: `C:\slipway\one\MSSQL`, Master: `C:\slipway\one\MSSQL\DATA\master.mdf`,
			MasterLog: `C:\slipway\one\MSSQL\DATA\mastlog.ldf`, ErrorLog: `C:\slipway\one\MSSQL\Log\ERRORLOG`, Flags: []string{"-T1118"}, TCP: true,
		},
		{
			Name: "SW_FEDCBA9876543", ID: "MSSQL15.SW_FEDCBA9876543", Version: origin.Version, Edition: origin.Edition, Collation: origin.Collation,
			Binn: `C:\slipway\two\MSSQL\Binn`, DataRoot: `C:\slipway\two\MSSQL`, Master: `C:\slipway\two\MSSQL\DATA\master.mdf`,
			MasterLog: `C:\slipway\two\MSSQL\DATA\mastlog.ldf`, ErrorLog: `C:\slipway\two\MSSQL\Log\ERRORLOG`, TCP: true,
		},
	}
	if len(want[0].Name) == 0 || cmp.Diff(sorted(want), sorted(found)) != "" {
		t.Error(cmp.Diff(sorted(want), sorted(found)))
	}
	// What Setup recorded is there, and nothing but the first address, on the instance's own port.
	setup, err := r.Values(one.key() + `\Setup`)
	if err != nil || string(setup["checksum"].([]byte)) != "\x01\x02\x03" {
		t.Error(setup, err)
	}
	ip, err := r.Values(one.key() + `\MSSQLServer\SuperSocketNetLib\Tcp\IP1`)
	if err != nil || ip["TcpPort"] != "50001" || ip["IpAddress"] != "127.0.0.1" || ip["Enabled"] != uint64(1) {
		t.Error(ip, err)
	}
	if left, err := r.Values(one.key() + `\MSSQLServer\SuperSocketNetLib\Tcp\IP2`); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an address of the origin is left: %v, %v", left, err)
	}
	text := r.Dump()
	for line := range strings.Lines(text) {
		if !strings.Contains(line, one.ID()) && !strings.Contains(line, two.ID()) {
			continue
		}
		if strings.Contains(line, "Program Files") && !strings.Contains(line, "SqlProgramDir") || strings.Contains(line, "Agent") || strings.Contains(line, "4977") {
			t.Errorf("a key of the origin is left: %s", line)
		}
	}
	for _, i := range []Instance{two, one, one} {
		if err := i.Unregister(r); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(before, r.Dump()); diff != "" {
		t.Error(diff)
	}
}

func sorted(list []sqlinstance.Instance) []sqlinstance.Instance {
	slices.SortFunc(list, func(a, b sqlinstance.Instance) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func TestInstanceArguments(t *testing.T) {
	i := Instance{Name: "SW_A", Origin: sqlinstance.Instance{ID: "MSSQL16.MSSQLSERVER", Binn: `D:\SQL\MSSQL\Binn`}, Root: `C:\c\`, Port: 1, Flags: []string{"-x"}}
	want := []string{"-sSW_A", "-c", `-dC:\c\MSSQL\DATA\master.mdf`, `-eC:\c\MSSQL\Log\ERRORLOG`, `-lC:\c\MSSQL\DATA\mastlog.ldf`, "-x"}
	if diff := cmp.Diff(want, i.Args()); diff != "" {
		t.Error(diff)
	}
	copies := []Copied{
		{From: `D:\SQL\MSSQL\Binn`, To: `C:\c\MSSQL\Binn`, Skip: []string{"Templates"}},
		{From: `D:\SQL\MSSQL\Binn\Templates`, To: `C:\c\MSSQL\DATA`, Skip: []string{"tempdb.mdf", "templog.ldf"}},
	}
	if diff := cmp.Diff(copies, i.Copies()); diff != "" {
		t.Error(diff)
	}
	names := []string{"MASTER.MDF", "mastlog.ldf", "model.mdf", "modellog.ldf", "MSDBData.mdf", "MSDBLog.ldf", "tempdb.mdf"}
	if err := CheckTemplates(names); err != nil {
		t.Error(err)
	}
	if err := CheckTemplates(names[1:]); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "master.mdf") {
		t.Error(err)
	}
}

func TestInstanceRefused(t *testing.T) {
	r := sqlinstancetest.Express2019()
	r.Install("SW_TAKEN", "MSSQL15.SW_TAKEN", "15.0.2000.5", "Express Edition")
	r.Install("OTHER", "MSSQL15.SW_ID", "15.0.2000.5", "Express Edition")
	before := r.Dump()
	good := Instance{Name: "SW_A", Origin: express(t, sqlinstancetest.Express2019()), Root: `C:\c`, Port: 1}
	for name, test := range map[string]struct {
		change func(*Instance)
		is     func(error) bool
	}{
		"no name":           {func(i *Instance) { i.Name = "" }, errdefs.IsInvalidArgument},
		"a long name":       {func(i *Instance) { i.Name = "SW_45678901234567" }, errdefs.IsInvalidArgument},
		"a digit first":     {func(i *Instance) { i.Name = "1A" }, errdefs.IsInvalidArgument},
		"a path":            {func(i *Instance) { i.Name = `A\B` }, errdefs.IsInvalidArgument},
		"an underscore":     {func(i *Instance) { i.Name = "A_" }, errdefs.IsInvalidArgument},
		"the default's":     {func(i *Instance) { i.Name = "mssqlserver" }, errdefs.IsInvalidArgument},
		"no port":           {func(i *Instance) { i.Port = 0 }, errdefs.IsInvalidArgument},
		"a cluster's":       {func(i *Instance) { i.Origin.Clustered = true }, errdefs.IsInvalidArgument},
		"another's name":    {func(i *Instance) { i.Name = "sw_taken" }, errdefs.IsAlreadyExists},
		"another's ID":      {func(i *Instance) { i.Name = "SW_ID" }, errdefs.IsAlreadyExists},
		"a relative root":   {func(i *Instance) { i.Root = `c\d` }, func(err error) bool { return err != nil }},
		"no origin":         {func(i *Instance) { i.Origin = sqlinstance.Instance{} }, errdefs.IsInvalidArgument},
		"a removed origin ": {func(i *Instance) { i.Origin.ID = "MSSQL15.GONE" }, func(err error) bool { return err != nil }},
	} {
		t.Run(name, func(t *testing.T) {
			i := good
			test.change(&i)
			if err := i.Register(r); !test.is(err) {
				t.Errorf("%v", err)
			}
			if diff := cmp.Diff(before, r.Dump()); diff != "" {
				t.Error(diff)
			}
		})
	}
	taken := good
	taken.Name = "SW_TAKEN"
	if err := taken.Unregister(r); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, r.Dump()); diff != "" {
		t.Errorf("another instance was touched: %s", diff)
	}
}
