package job

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/windows"
)

// resolved is a program that can be started.
type resolved struct {
	path, commandLine, dir string
}

// resolve finds p's program and working directory in the container whose root is root.
func resolve(root string, p Program) (resolved, error) {
	r := resolved{commandLine: Expand(p.CommandLine, root)}
	args := make([]string, len(p.Args))
	for i, arg := range p.Args {
		args[i] = Expand(arg, root)
	}
	if r.commandLine != "" {
		var err error
		if args, err = windows.DecomposeCommandLine(r.commandLine); err != nil {
			return r, fmt.Errorf("command line %q: %w: %w", r.commandLine, err, errdefs.ErrInvalidArgument)
		}
	}
	if len(args) == 0 || args[0] == "" {
		return r, fmt.Errorf("no command specified: %w", errdefs.ErrInvalidArgument)
	}
	var err error
	if r.dir, err = makeDir(root, p.Dir); err != nil {
		return r, err
	}
	if r.path, err = findProgram(root, r.dir, args[0], p.Env); err != nil {
		return r, err
	}
	if r.commandLine == "" {
		if err := checkBatch(r.path, args[1:]); err != nil {
			return r, err
		}
		r.commandLine = windows.ComposeCommandLine(args)
	}
	return r, nil
}

// makeDir returns the host's path of a directory of the container, which it makes if it is missing.
// A link in the container that leads out of it is not followed.
func makeDir(root, dir string) (string, error) {
	rel, err := relative(root, dir)
	if err != nil {
		return "", fmt.Errorf("working directory: %w", err)
	}
	if rel == "." {
		return root, nil
	}
	within, err := os.OpenRoot(root)
	if err != nil {
		return "", fmt.Errorf("the container's root: %w", err)
	}
	defer within.Close()
	if info, err := within.Stat(rel); err == nil && !info.IsDir() {
		return "", fmt.Errorf("working directory %s is not a directory: %w", dir, errdefs.ErrInvalidArgument)
	}
	if err := within.MkdirAll(rel, 0o755); err != nil {
		return "", fmt.Errorf("making %s in the container: %w", dir, err)
	}
	return Join(root, rel), nil
}

// relative returns path beneath root, be it a path of the container or a path of the host
// that is beneath the root already, as %CONTAINER_ROOT% makes it.
func relative(root, path string) (string, error) {
	path = Expand(path, root)
	if rest, ok := cutRoot(path, root); ok {
		path = rest
	}
	return Inside(path)
}

// cutRoot cuts root, and nothing that only begins like it, from the beginning of path.
func cutRoot(path, root string) (rest string, ok bool) {
	path, root = filepath.Clean(path), strings.TrimRight(filepath.Clean(root), `\`)
	if len(path) < len(root) || !strings.EqualFold(path[:len(root)], root) {
		return "", false
	}
	rest = path[len(root):]
	return rest, rest == "" || rest[0] == '\\'
}

// findProgram returns the host's path of the program name.
//
// A path of the container is looked for beneath its root, and then as it is on the host; a
// relative path beneath the working directory and the root; a mere name there
// and then in the directories of PATH. Where the name has no extension, the usual ones
// are tried.
func findProgram(root, dir, name string, env []string) (string, error) {
	name = filepath.FromSlash(name)
	var places []string
	switch {
	case filepath.VolumeName(name) != "" && filepath.IsAbs(name):
		if rel, err := relative(root, name); err == nil {
			places = append(places, Join(root, rel))
		}
		places = append(places, name)
	case strings.HasPrefix(name, `\`):
		if rel, err := Inside(name); err == nil {
			places = append(places, Join(root, rel))
		}
	case filepath.VolumeName(name) != "":
		// C:name, relative to the working directory of a drive: nobody has one here.
	default:
		places = append(places, filepath.Join(dir, name), filepath.Join(root, name))
		if filepath.Base(name) == name {
			for _, place := range filepath.SplitList(Lookup(env, "PATH")) {
				if rel, err := relative(root, place); err == nil {
					places = append(places, filepath.Join(root, rel, name))
				}
				if filepath.IsAbs(place) {
					places = append(places, filepath.Join(place, name))
				}
			}
		}
	}
	for _, place := range places {
		for _, extension := range []string{"", ".com", ".exe", ".bat", ".cmd"} {
			if extension == "" && filepath.Ext(place) == "" {
				continue // Windows starts nothing that has no extension
			}
			if info, err := os.Stat(place + extension); err == nil && info.Mode().IsRegular() {
				return place + extension, nil
			}
		}
	}
	return "", fmt.Errorf("exec: %q: executable file not found in %%PATH%%: %w", name, errdefs.ErrNotFound)
}

// checkBatch refuses arguments for a batch file that the command interpreter, which runs it, would
// take for commands: it does not read command lines as other programs do.
func checkBatch(path string, args []string) error {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".bat", ".cmd":
	default:
		return nil
	}
	for _, arg := range args {
		if strings.ContainsAny(arg, "\"%!^&|<>()\r\n") {
			return fmt.Errorf("argument %q of a batch file has a character that cmd.exe interprets; run cmd.exe /c with the whole command line: %w", arg, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// startError is the error of a process that could not be made, in the words that other runtimes use.
func startError(path string, err error) error {
	switch {
	case errors.Is(err, windows.ERROR_FILE_NOT_FOUND), errors.Is(err, windows.ERROR_PATH_NOT_FOUND):
		return fmt.Errorf("exec: %q: executable file not found: %w", path, errdefs.ErrNotFound)
	case errors.Is(err, windows.ERROR_ACCESS_DENIED):
		return fmt.Errorf("exec: %q: permission denied: %w", path, errdefs.ErrPermissionDenied)
	case errors.Is(err, windows.ERROR_BAD_EXE_FORMAT), errors.Is(err, windows.ERROR_EXE_MACHINE_TYPE_MISMATCH):
		return fmt.Errorf("exec: %q: exec format error (%w): %w", path, err, errdefs.ErrInvalidArgument)
	case errors.Is(err, windows.ERROR_PRIVILEGE_NOT_HELD):
		return fmt.Errorf("only a service may start programs by another account: run slipwayd as a service, or give the container annotation %s=%s (%w): %w",
			IdentityAnnotation, Own, err, errdefs.ErrFailedPrecondition)
	case errors.Is(err, windows.ERROR_NOT_ENOUGH_QUOTA):
		return fmt.Errorf("exec: %q: the container has as many processes as it may: %w", path, errdefs.ErrResourceExhausted)
	}
	return fmt.Errorf("exec: %q: %w", path, err)
}
