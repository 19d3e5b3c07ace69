// Package sqlinstancetest is a registry in memory, with SQL Server installed in it as Setup leaves it.
package sqlinstancetest

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"slipway/internal/sqlinstance"
)

// Registry is a registry in memory. It is for one goroutine.
type Registry struct{ keys map[string]*key }

type key struct {
	name   string
	values map[string]any
}

var _ sqlinstance.Registry = (*Registry)(nil)

// New returns an empty registry.
func New() *Registry { return &Registry{keys: map[string]*key{}} }

func missing(name string) error { return fmt.Errorf("registry key %s: %w", name, fs.ErrNotExist) }

// Values is [sqlinstance.Keys.Values].
func (r *Registry) Values(name string) (map[string]any, error) {
	k, ok := r.keys[strings.ToUpper(name)]
	if !ok {
		return nil, missing(name)
	}
	return maps.Clone(k.values), nil
}

// Subkeys is [sqlinstance.Keys.Subkeys]; the names are sorted.
func (r *Registry) Subkeys(name string) ([]string, error) {
	if _, ok := r.keys[strings.ToUpper(name)]; !ok {
		return nil, missing(name)
	}
	var out []string
	for upper, k := range r.keys {
		if rest, ok := strings.CutPrefix(upper, strings.ToUpper(name)+`\`); ok && !strings.Contains(rest, `\`) {
			out = append(out, k.name[len(name)+1:])
		}
	}
	slices.Sort(out)
	return out, nil
}

// SetValues is [sqlinstance.Registry.SetValues].
func (r *Registry) SetValues(name string, values map[string]any) error {
	for i := range len(name) + 1 {
		if i < len(name) && name[i] != '\\' {
			continue
		}
		if upper := strings.ToUpper(name[:i]); r.keys[upper] == nil {
			r.keys[upper] = &key{name: name[:i], values: map[string]any{}}
		}
	}
	k := r.keys[strings.ToUpper(name)]
	for n, v := range values {
		for old := range k.values {
			if strings.EqualFold(old, n) {
				delete(k.values, old)
			}
		}
		k.values[n] = v
	}
	return nil
}

// DeleteValue is [sqlinstance.Registry.DeleteValue].
func (r *Registry) DeleteValue(name, value string) error {
	if k := r.keys[strings.ToUpper(name)]; k != nil {
		maps.DeleteFunc(k.values, func(n string, _ any) bool { return strings.EqualFold(n, value) })
	}
	return nil
}

// DeleteKey is [sqlinstance.Registry.DeleteKey].
func (r *Registry) DeleteKey(name string) error {
	upper := strings.ToUpper(name)
	maps.DeleteFunc(r.keys, func(n string, _ *key) bool { return n == upper || strings.HasPrefix(n, upper+`\`) })
	return nil
}

// Express2019 is a machine with SQL Server 2019 Express as Setup installs it with its defaults: the named instance SQLEXPRESS,
// with a port that is chosen at each start.
func Express2019() *Registry {
	r := New()
	r.Install("SQLEXPRESS", "MSSQL15.SQLEXPRESS", "15.0.2000.5", "Express Edition")
	return r
}

// Install adds an instance with Setup's defaults.
func (r *Registry) Install(name, id, version, edition string) {
	const program = `C:\Program Files\Microsoft SQL Server`
	root, dir := sqlinstance.Root+`\`+id, program+`\`+id+`\MSSQL`
	port, dynamic := "", "49777"
	if name == "MSSQLSERVER" {
		port, dynamic = "1433", ""
	}
	for _, k := range []struct {
		key    string
		values map[string]any
	}{
		{sqlinstance.InstanceNames, map[string]any{name: id}},
		{root, map[string]any{"": name}},
		{root + `\Setup`, map[string]any{
			"SQLPath": dir, "SQLBinRoot": dir + `\Binn`, "SQLDataRoot": dir, "SqlProgramDir": program + `\`,
			"Version": version, "PatchLevel": version, "Edition": edition, "EditionType": edition,
			"Collation": "SQL_Latin1_General_CP1_CI_AS", "Language": uint64(1033), "FeatureList": "SQL_Engine_Core_Inst=3 ",
			"ProductCode": "{11111111-2222-3333-4444-555555555555}", "DigitalProductID": []byte{0xa4, 0, 0, 0}, "checksum": []byte{1, 2, 3},
		}},
		{root + `\SQLServerAgent`, map[string]any{"WorkingDirectory": dir + `\JOBS`}},
		{root + `\MSSQLServer`, map[string]any{
			"LoginMode": uint64(1), "AuditLevel": uint64(2), "BackupDirectory": dir + `\Backup`,
			"DefaultData": dir + `\DATA`, "DefaultLog": dir + `\DATA`,
		}},
		{root + `\MSSQLServer\CurrentVersion`, map[string]any{"CurrentVersion": version, "Language": uint64(1033)}},
		{root + `\MSSQLServer\Parameters`, map[string]any{
			"SQLArg0": "-d" + dir + `\DATA\master.mdf`, "SQLArg1": "-e" + dir + `\Log\ERRORLOG`, "SQLArg2": "-l" + dir + `\DATA\mastlog.ldf`,
		}},
		{root + `\MSSQLServer\SuperSocketNetLib`, map[string]any{"ForceEncryption": uint64(0), "HideInstance": uint64(0), "Certificate": ""}},
		{root + `\MSSQLServer\SuperSocketNetLib\AdminConnection\Tcp`, map[string]any{"Enabled": uint64(1), "TcpDynamicPorts": "49778"}},
		{root + `\MSSQLServer\SuperSocketNetLib\Np`, map[string]any{"Enabled": uint64(0), "PipeName": `\\.\pipe\MSSQL$` + name + `\sql\query`}},
		{root + `\MSSQLServer\SuperSocketNetLib\Sm`, map[string]any{"Enabled": uint64(1)}},
		{root + `\MSSQLServer\SuperSocketNetLib\Tcp`, map[string]any{"Enabled": uint64(1), "ListenOnAllIPs": uint64(1), "KeepAlive": uint64(30000)}},
		{root + `\MSSQLServer\SuperSocketNetLib\Tcp\IP1`, map[string]any{
			"Active": uint64(1), "Enabled": uint64(0), "IpAddress": "192.0.2.7", "TcpPort": port, "TcpDynamicPorts": "0",
		}},
		{root + `\MSSQLServer\SuperSocketNetLib\Tcp\IP2`, map[string]any{
			"Active": uint64(1), "Enabled": uint64(1), "IpAddress": "127.0.0.1", "TcpPort": port, "TcpDynamicPorts": "0",
		}},
		{root + `\MSSQLServer\SuperSocketNetLib\Tcp\IPAll`, map[string]any{"TcpPort": port, "TcpDynamicPorts": dynamic}},
	} {
		_ = r.SetValues(k.key, k.values) // memory does not fail
	}
}

// Dump is the whole registry as text, one value a line, for comparison.
func (r *Registry) Dump() string {
	var lines []string
	for _, k := range r.keys {
		for n, v := range k.values {
			lines = append(lines, fmt.Sprintf("%s\\%s = %v\n", k.name, n, v))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}
