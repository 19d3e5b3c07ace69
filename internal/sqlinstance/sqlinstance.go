// Package sqlinstance finds the instances of SQL Server that are installed on a Windows machine, in the registry, where
// Setup records them (page "File Locations for Default and Named Instances of SQL Server").
//
// The registry is reached through [Keys], so that the package can be tried on any system with a layout as a real
// installation has it (package sqlinstancetest); [Local] is the machine's own, on Windows.
//
//	HKLM\SOFTWARE\Microsoft\Microsoft SQL Server
//	├── Instance Names\SQL         one value an instance: its name = its ID, SQLEXPRESS = MSSQL15.SQLEXPRESS
//	└── MSSQL15.SQLEXPRESS
//	    ├── Setup                  Version, Edition, SQLPath, SQLBinRoot, SQLDataRoot, …
//	    ├── ClusterName, Cluster   in a failover cluster only
//	    └── MSSQLServer
//	        ├── CurrentVersion     the version as installed
//	        ├── Parameters         SQLArg0 = -d…, SQLArg1 = -e…, SQLArg2 = -l…
//	        └── SuperSocketNetLib\Tcp     Enabled; IPAll: TcpPort, TcpDynamicPorts
//
// [Find] changes nothing; [Registry] is for those who make an instance. The package takes no locks.
package sqlinstance

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// Root is the key beneath HKEY_LOCAL_MACHINE that has everything of SQL Server. Setup of a 64-bit server writes into the 64-bit view.
const Root = `SOFTWARE\Microsoft\Microsoft SQL Server`

// InstanceNames is the key whose values are the instances of the Database Engine.
const InstanceNames = Root + `\Instance Names\SQL`

// Keys reads the registry beneath HKEY_LOCAL_MACHINE, in its 64-bit view. Names are compared without regard to case. What is not there is
// an error that wraps fs.ErrNotExist.
type Keys interface {
	// Values returns the values of a key by name: string for REG_SZ and, with its variables replaced, REG_EXPAND_SZ;
	// []string for REG_MULTI_SZ; uint64 for REG_DWORD and REG_QWORD; []byte for REG_BINARY.
	Values(key string) (map[string]any, error)
	// Subkeys returns the names of the keys directly beneath a key.
	Subkeys(key string) ([]string, error)
}

// Registry also changes what [Keys] reads.
type Registry interface {
	Keys
	// SetValues makes a key, and those above it, and sets values of the types that Values returns; others of the key stay.
	SetValues(key string, values map[string]any) error
	// DeleteValue removes a value; that it is not there is no error.
	DeleteValue(key, name string) error
	// DeleteKey removes a key with everything beneath it; that it is not there is no error.
	DeleteKey(key string) error
}

// Instance is an installed instance of the Database Engine.
type Instance struct {
	// Name is what clients call it; MSSQLSERVER for the default instance.
	Name string `json:"name"`
	// ID is its name in the registry and of its directory, such as MSSQL15.SQLEXPRESS.
	ID string `json:"id"`
	// Version is the version of its programs, such as 15.0.2000.5, with the last patch.
	Version string `json:"version"`
	// Edition is such as "Express Edition".
	Edition string `json:"edition"`
	// Collation is the server's, if Setup recorded it.
	Collation string `json:"collation,omitempty"`
	// Binn is the directory that has sqlservr.exe.
	Binn string `json:"binn"`
	// DataRoot is the directory beneath which its data is by default: the one that has DATA and Log.
	DataRoot string `json:"dataRoot,omitempty"`
	// Master, MasterLog and ErrorLog are the paths of its arguments -d, -l and -e.
	Master    string `json:"master,omitempty"`
	MasterLog string `json:"masterLog,omitempty"`
	ErrorLog  string `json:"errorLog,omitempty"`
	// Flags are its other arguments, such as -T1118.
	Flags []string `json:"flags,omitempty"`
	// TCP tells whether it listens on TCP, and Port where: 0 if the port is chosen anew at each start.
	TCP  bool   `json:"tcp"`
	Port uint16 `json:"port,omitempty"`
	// Clustered is true for an instance of a failover cluster.
	Clustered bool `json:"clustered,omitempty"`
}

// Templates is the directory that has the system databases as Setup makes a new instance of them ("Rebuild System Databases").
func (i Instance) Templates() string { return i.Binn + `\Templates` }

// Find lists the instances by name. One whose keys cannot be understood, as after a removal that was cut short, is left out, and problems
// says why. Without any SQL Server both are empty.
func Find(k Keys) (found []Instance, problems []error, err error) {
	names, err := k.Values(InstanceNames)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	for name, id := range names {
		id, ok := id.(string)
		if !ok || id == "" || strings.ContainsAny(id, `\/`) {
			problems = append(problems, fmt.Errorf("instance %s of SQL Server: its ID in the registry is not one", name))
			continue
		}
		i, err := read(k, name, id)
		if err != nil {
			problems = append(problems, fmt.Errorf("instance %s of SQL Server: %w", name, err))
			continue
		}
		found = append(found, i)
	}
	slices.SortFunc(found, func(a, b Instance) int { return cmp.Compare(strings.ToUpper(a.Name), strings.ToUpper(b.Name)) })
	slices.SortFunc(problems, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return found, problems, nil
}

func read(k Keys, name, id string) (Instance, error) {
	root := Root + `\` + id
	setup, err := k.Values(root + `\Setup`)
	if err != nil {
		return Instance{}, err
	}
	i := Instance{
		Name: name, ID: id, Edition: text(setup, "Edition"), Collation: text(setup, "Collation"),
		Version: cmp.Or(text(setup, "PatchLevel"), text(setup, "Version")), DataRoot: path(setup, "SQLDataRoot"),
	}
	switch {
	case path(setup, "SQLBinRoot") != "":
		i.Binn = path(setup, "SQLBinRoot")
	case path(setup, "SQLPath") != "":
		i.Binn = path(setup, "SQLPath") + `\Binn`
	default:
		return Instance{}, errors.New("the registry does not say where its programs are")
	}
	if current, err := optional(k, root+`\MSSQLServer\CurrentVersion`); err != nil {
		return Instance{}, err
	} else if i.Version == "" {
		i.Version = text(current, "CurrentVersion")
	}
	arguments, err := optional(k, root+`\MSSQLServer\Parameters`)
	if err != nil {
		return Instance{}, err
	}
	i.arguments(arguments)
	if err := i.network(k, root+`\MSSQLServer\SuperSocketNetLib\Tcp`); err != nil {
		return Instance{}, err
	}
	_, err = k.Values(root + `\Cluster`)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Instance{}, err
	}
	i.Clustered = err == nil
	return i, nil
}

// arguments sorts the start arguments, SQLArg0, SQLArg1 and so on.
func (i *Instance) arguments(values map[string]any) {
	for n := 0; ; n++ {
		arg := text(values, "SQLArg"+strconv.Itoa(n))
		switch {
		case arg == "":
			return
		case strings.HasPrefix(arg, "-d"):
			i.Master = strings.TrimSpace(arg[2:])
		case strings.HasPrefix(arg, "-l"):
			i.MasterLog = strings.TrimSpace(arg[2:])
		case strings.HasPrefix(arg, "-e"):
			i.ErrorLog = strings.TrimSpace(arg[2:])
		default:
			i.Flags = append(i.Flags, arg)
		}
	}
}

// network reads whether and where the instance listens. A port that is chosen at each start is recorded in TcpDynamicPorts, which says
// where it listened last.
func (i *Instance) network(k Keys, key string) error {
	tcp, err := optional(k, key)
	if err != nil {
		return err
	}
	i.TCP = number(tcp, "Enabled") != 0
	all, err := optional(k, key+`\IPAll`)
	if err != nil {
		return err
	}
	// Several ports may stand there, with commas.
	first, _, _ := strings.Cut(text(all, "TcpPort"), ",")
	if port, err := strconv.ParseUint(strings.TrimSpace(first), 10, 16); err == nil {
		i.Port = uint16(port)
	}
	return nil
}

// optional are the values of a key that need not be there.
func optional(k Keys, key string) (map[string]any, error) {
	values, err := k.Values(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return values, err
}

func get(values map[string]any, name string) any {
	for n, v := range values {
		if strings.EqualFold(n, name) {
			return v
		}
	}
	return nil
}

func text(values map[string]any, name string) string {
	s, _ := get(values, name).(string)
	return strings.TrimSpace(s)
}

// path is a directory without the separator that Setup puts at the end of some.
func path(values map[string]any, name string) string {
	return strings.TrimRight(text(values, name), `\`)
}

func number(values map[string]any, name string) uint64 {
	n, _ := get(values, name).(uint64)
	return n
}
