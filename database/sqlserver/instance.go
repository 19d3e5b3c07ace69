package sqlserver

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"

	"slipway/internal/sqlinstance"

	"github.com/containerd/errdefs"
)

// Instance is a SQL Server instance that is made for one container, out of one that is installed.
//
// A named instance is found by its name in the registry: sqlservr -s looks its ID up, and reads its settings beneath it
// ("sqlservr Application", "File Locations for Default and Named Instances of SQL Server"). So a container has a name, an ID and
// keys of its own. They begin as a copy of the installed instance's, since Setup records there what is nowhere described (edition,
// product ID). The keys of its agent, replication and cluster are not copied.
//
// The programs are the container's own copy in MSSQL\Binn beneath its root: the page "Resource Database" says that
// instances do not share the file of that database, which lies beside sqlservr.exe and cannot be moved.
type Instance struct {
	// Name is the instance's name, see [InstanceName].
	Name string
	// Origin is the installed instance.
	Origin sqlinstance.Instance
	// Root is the container's root as the server sees it.
	Root string
	// Address is where it listens, 127.0.0.1 if empty, and Port is the port.
	Address string
	Port    uint16
	// Flags are further arguments, such as -T1118 or -x.
	Flags []string
}

// maxInstanceName is the length of an instance's name (page "Instance Configuration").
const maxInstanceName = 16

// InstanceName is the name of the instance of a container: the first 13 characters of its ID, after a letter that a name has to begin with.
// Whether it is free is seen by [Instance.Register].
func InstanceName(containerID string) string {
	const prefix = "SW_"
	id := strings.ToUpper(containerID)
	return prefix + id[:min(len(id), maxInstanceName-len(prefix))]
}

// check tells what of an instance cannot be.
func (i Instance) check() error {
	bad := func(why string) error {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("SQL Server instance %q: %s", clean(i.Name), why))
	}
	switch {
	case i.Name == "" || len(utf16.Encode([]rune(i.Name))) > maxInstanceName:
		return bad("a name has 1 to 16 characters")
	case strings.EqualFold(i.Name, "MSSQLSERVER") || strings.EqualFold(i.Name, "DEFAULT"):
		return bad("the name means the default instance")
	case strings.HasSuffix(i.Name, "_"):
		return bad("a name does not end with an underscore")
	case i.Origin.ID == "" || i.Origin.Binn == "":
		return bad("no installed instance was named to make it of")
	case i.Origin.Clustered:
		return bad("the installed instance belongs to a failover cluster")
	case i.Port == 0:
		return bad("it has no port")
	}
	for n, r := range i.Name {
		if !unicode.IsLetter(r) && (n == 0 || !unicode.IsDigit(r) && r != '_' && r != '$') {
			return bad("a name begins with a letter, and has letters, digits, _ and $")
		}
	}
	return checkPath(i.Root)
}

// ID is the instance's ID: MSSQL15.NAME for one that is made of MSSQL15.SQLEXPRESS.
func (i Instance) ID() string {
	kind, _, _ := strings.Cut(i.Origin.ID, ".")
	// An ID with a dollar sign is not supported (page "Instance Configuration").
	return kind + "." + strings.ReplaceAll(i.Name, "$", "_")
}

// Home is the instance's directory.
func (i Instance) Home() string { return join(i.Root, "MSSQL") }

// Data is the directory of its databases.
func (i Instance) Data() string { return join(i.Home(), "DATA") }

// Binn is the directory of its programs, which is the working directory of sqlservr.exe.
func (i Instance) Binn() string { return join(i.Home(), "Binn") }

// Args are the arguments of an ordinary start of sqlservr.exe. -c is for a server that the service control manager did not start, and each
// of the others has its value without a space between (page "sqlservr Application"). -d, -l and -e stand in the registry as
// well; here they are seen in a list of processes.
func (i Instance) Args() []string {
	args := []string{"-s" + i.Name, "-c"}
	args = append(args, i.places()...)
	return append(args, i.Flags...)
}

func (i Instance) places() []string {
	return []string{
		"-d" + join(i.Data(), "master.mdf"), "-e" + join(join(i.Home(), "Log"), "ERRORLOG"), "-l" + join(i.Data(), "mastlog.ldf"),
	}
}

// Copied is a directory whose files an instance has as copies.
type Copied struct {
	// From is the directory of the installation, To the instance's.
	From, To string
	// Skip are the names in From that are not copied.
	Skip []string
}

// Copies are the directories that make up a new instance: its programs and, as its system databases, the templates of which Setup makes
// them ("Rebuild System Databases"). These have to be prepared before an ordinary start ([Preparation], with Templates). tempdb
// is made anew at each start. No document of Microsoft says that an instance can be made in this way without Setup.
func (i Instance) Copies() []Copied {
	return []Copied{
		{From: i.Origin.Binn, To: i.Binn(), Skip: []string{"Templates"}},
		{From: i.Origin.Templates(), To: i.Data(), Skip: []string{"tempdb.mdf", "templog.ldf"}},
	}
}

// CheckTemplates tells whether the names of a directory's files are those of a set of system databases.
func CheckTemplates(names []string) error {
	for _, want := range []string{"master.mdf", "mastlog.ldf", "model.mdf", "modellog.ldf", "msdbdata.mdf", "msdblog.ldf"} {
		if !slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, want) }) {
			return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf(
				"the installation has no template %s of its system databases; run Repair of SQL Server's Setup", want))
		}
	}
	return nil
}

func (i Instance) key() string { return sqlinstance.Root + `\` + i.ID() }

// Register writes the instance's keys. It may be repeated. An instance of this name that lies elsewhere is an error that wraps
// errdefs.ErrAlreadyExists.
func (i Instance) Register(r sqlinstance.Registry) error {
	if err := i.check(); err != nil {
		return err
	}
	if err := i.free(r); err != nil {
		return err
	}
	origin := sqlinstance.Root + `\` + i.Origin.ID
	for _, part := range []string{`\Setup`, `\MSSQLServer`} {
		if err := copyKey(r, origin+part, i.key()+part); err != nil {
			return fmt.Errorf("copy the keys of instance %s of SQL Server: %w", i.Origin.Name, err)
		}
	}
	for _, k := range i.settings() {
		if err := r.SetValues(i.key()+k.key, k.values); err != nil {
			return err
		}
	}
	// The name comes last: with it the instance is there.
	return r.SetValues(sqlinstance.InstanceNames, map[string]any{i.Name: i.ID()})
}

// Unregister removes the instance's keys. It may be repeated, and leaves an instance of the same name that lies elsewhere.
func (i Instance) Unregister(r sqlinstance.Registry) error {
	if err := i.check(); err != nil {
		return err
	}
	if err := i.free(r); errdefs.IsAlreadyExists(err) {
		return nil
	} else if err != nil {
		return err
	}
	if err := r.DeleteValue(sqlinstance.InstanceNames, i.Name); err != nil {
		return err
	}
	return r.DeleteKey(i.key())
}

// free tells whether the name and ID are nobody else's.
func (i Instance) free(r sqlinstance.Registry) error {
	taken := errdefs.ErrAlreadyExists.WithMessage("another instance of SQL Server is named " + i.Name)
	names, err := r.Values(sqlinstance.InstanceNames)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for name, id := range names {
		text, _ := id.(string)
		if strings.EqualFold(name, i.Name) != strings.EqualFold(text, i.ID()) {
			return taken
		}
	}
	setup, err := r.Values(i.key() + `\Setup`)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	// Until Register has come so far the copied value says where the origin is.
	if place, _ := setup["SQLPath"].(string); same(place, i.Home()) || same(dirOf(i.Origin.Binn), strings.TrimRight(place, `\`)) {
		return nil
	}
	return taken
}

// copyKey copies a key with everything beneath it, but not the addresses on which the origin listens: it would be a second server on
// the same port.
func copyKey(r sqlinstance.Registry, from, to string) error {
	values, err := r.Values(from)
	if err != nil {
		return err
	}
	if err := r.SetValues(to, values); err != nil {
		return err
	}
	children, err := r.Subkeys(from)
	if err != nil {
		return err
	}
	for _, child := range children {
		if strings.EqualFold(baseOf(from), "Tcp") && strings.HasPrefix(strings.ToUpper(child), "IP") {
			continue
		}
		if err := copyKey(r, from+`\`+child, to+`\`+child); err != nil {
			return err
		}
	}
	return nil
}

type settings struct {
	key    string
	values map[string]any
}

// settings are the values in which the instance differs from its origin.
func (i Instance) settings() []settings {
	const net = `\MSSQLServer\SuperSocketNetLib`
	address := i.Address
	if address == "" {
		address = "127.0.0.1"
	}
	parameters := map[string]any{}
	for n, arg := range append(i.places(), i.Flags...) {
		parameters["SQLArg"+strconv.Itoa(n)] = arg
	}
	return []settings{
		{"", map[string]any{"": i.Name}},
		{`\Setup`, map[string]any{"SQLPath": i.Home(), "SQLBinRoot": i.Binn(), "SQLDataRoot": i.Home()}},
		{`\MSSQLServer`, map[string]any{
			// Both kinds of authentication ("Change server authentication mode"): the engine knows only the server's own logins.
			"LoginMode": uint64(2), "DefaultData": i.Data(), "DefaultLog": i.Data(), "BackupDirectory": join(i.Home(), "Backup"),
		}},
		{`\MSSQLServer\Parameters`, parameters},
		// "Hide an Instance of SQL Server Database Engine": the Browser service does not announce it.
		{net, map[string]any{"HideInstance": uint64(1)}},
		{net + `\Np`, map[string]any{"Enabled": uint64(0), "PipeName": `\\.\pipe\MSSQL$` + i.Name + `\sql\query`}},
		{net + `\AdminConnection\Tcp`, map[string]any{"TcpDynamicPorts": ""}},
		// "TCP/IP Properties (Protocols Tab)": with Listen All off, it listens where an address is enabled and active.
		{net + `\Tcp`, map[string]any{"Enabled": uint64(1), "ListenOnAllIPs": uint64(0)}},
		{net + `\Tcp\IP1`, map[string]any{
			"Active": uint64(1), "Enabled": uint64(1), "IpAddress": address,
			"TcpPort": strconv.Itoa(int(i.Port)), "TcpDynamicPorts": "",
		}},
		{net + `\Tcp\IPAll`, map[string]any{"TcpPort": "", "TcpDynamicPorts": ""}},
	}
}
