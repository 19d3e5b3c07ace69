package job

import (
	"slices"
	"strings"
)

// hostVariables are those that a program needs to find Windows itself. No other
// variable of the engine's comes into a container: they are the engine's own affair.
var hostVariables = []string{
	"SystemRoot", "SystemDrive", "windir", "ComSpec", "PATHEXT", "OS",
	"NUMBER_OF_PROCESSORS", "PROCESSOR_ARCHITECTURE", "PROCESSOR_IDENTIFIER", "PROCESSOR_LEVEL", "PROCESSOR_REVISION",
	"ProgramFiles", "ProgramFiles(x86)", "ProgramW6432", "CommonProgramFiles", "CommonProgramFiles(x86)", "CommonProgramW6432",
	"ProgramData", "ALLUSERSPROFILE", "DriverData",
}

// The directories that every container has, beneath its root.
const (
	profileDir = `Users\ContainerUser`
	appDataDir = profileDir + `\AppData\Roaming`
	localDir   = profileDir + `\AppData\Local`
	tempDir    = localDir + `\Temp`
)

// OwnDirs are the directories that a container's environment names. They are
// relative to its root and have to be made where they are missing.
func OwnDirs() []string { return []string{appDataDir, tempDir} }

// Environment returns the environment of a process of the container whose root is
// root, sorted as Windows wants it. From host, the environment of the engine, come
// the variables that lead to Windows' own files. Then there is what points into the
// container, and then env, which wins over both, with %CONTAINER_ROOT% replaced. Only
// CONTAINER_ROOT is always the container's.
//
// Names are the same in whatever case they are written; of several the last counts.
// An entry without "=" removes the variable.
func Environment(root string, host, env []string) []string {
	vars := variables{}
	known := map[string]string{}
	for _, entry := range host {
		if name, value, ok := cut(entry); ok {
			known[strings.ToUpper(name)] = value
		}
	}
	for _, name := range hostVariables {
		if value, ok := known[strings.ToUpper(name)]; ok {
			vars.set(name, value)
		}
	}
	vars.set("PATH", searchPath(known["SYSTEMROOT"]))
	for name, dir := range map[string]string{
		"TEMP": tempDir, "TMP": tempDir, "USERPROFILE": profileDir, "APPDATA": appDataDir, "LOCALAPPDATA": localDir,
	} {
		vars.set(name, Join(root, dir))
	}
	vars.set("USERNAME", "ContainerUser")
	if len(root) > 1 && root[1] == ':' {
		vars.set("HOMEDRIVE", root[:2])
		vars.set("HOMEPATH", Join(root[2:], profileDir))
	}
	for _, entry := range env {
		name, value, ok := cut(entry)
		if !ok {
			delete(vars, strings.ToUpper(entry))
			continue
		}
		vars.set(name, Expand(value, root))
	}
	vars.set(RootVariable, root)
	return vars.sorted()
}

// searchPath is where a container's processes look for programs unless its image
// says otherwise: Windows' own, as in a fresh installation.
func searchPath(systemRoot string) string {
	if systemRoot == "" {
		systemRoot = `C:\Windows`
	}
	return strings.Join([]string{
		Join(systemRoot, "System32"), systemRoot, Join(systemRoot, `System32\Wbem`), Join(systemRoot, `System32\WindowsPowerShell\v1.0`),
	}, ";")
}

// Join puts the relative path rel, from [Inside], beneath root.
func Join(root, rel string) string {
	if rel == "." {
		return root
	}
	return strings.TrimRight(root, `\/`) + `\` + rel
}

// cut splits "name=value". A name may begin with "=", as those of the drives'
// current directories do.
func cut(entry string) (name, value string, ok bool) {
	if entry == "" {
		return "", "", false
	}
	at := strings.IndexByte(entry[1:], '=')
	if at < 0 {
		return "", "", false
	}
	return entry[:at+1], entry[at+2:], true
}

// variables are entries by their names in upper case.
type variables map[string]string

func (v variables) set(name, value string) { v[strings.ToUpper(name)] = name + "=" + value }

// sorted returns the entries in the order of their names, without regard to case.
func (v variables) sorted() []string {
	names := make([]string, 0, len(v))
	for name := range v {
		names = append(names, name)
	}
	slices.Sort(names)
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = v[name]
	}
	return out
}

// Lookup returns the value of a variable of an environment.
func Lookup(env []string, name string) string {
	for _, entry := range env {
		if n, value, ok := cut(entry); ok && strings.EqualFold(n, name) {
			return value
		}
	}
	return ""
}
