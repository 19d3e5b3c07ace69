package sqlinstance

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/windows/registry"
)

// view is the 64-bit view, for a program of either kind.
const view = registry.WOW64_64KEY

// Local reads and changes this machine's registry. Its zero value is ready to use; it is safe for concurrent use as far as the
// registry is.
type Local struct{}

var _ Registry = Local{}

func open(key string, access uint32) (registry.Key, error) {
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, key, access|view)
	return k, named(key, err)
}

// named says in an error which key it is about.
func named(key string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, registry.ErrNotExist):
		return fmt.Errorf("registry key HKLM\\%s: %w", key, fs.ErrNotExist)
	}
	return fmt.Errorf("registry key HKLM\\%s: %w", key, err)
}

// Values is [Keys.Values].
func (Local) Values(key string) (map[string]any, error) {
	k, err := open(key, registry.QUERY_VALUE)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	names, err := k.ReadValueNames(-1)
	if err != nil {
		return nil, named(key, err)
	}
	out := make(map[string]any, len(names))
	for _, name := range names {
		v, err := value(k, name)
		if err != nil {
			return nil, named(key+`\`+name, err)
		}
		if v != nil {
			out[name] = v
		}
	}
	return out, nil
}

// value reads one value; it is nil for a type that nothing of SQL Server has.
func value(k registry.Key, name string) (any, error) {
	_, kind, err := k.GetValue(name, nil)
	if err != nil {
		return nil, err
	}
	switch kind {
	case registry.SZ, registry.EXPAND_SZ:
		s, _, err := k.GetStringValue(name)
		if err == nil && kind == registry.EXPAND_SZ {
			s, err = registry.ExpandString(s)
		}
		return s, err
	case registry.MULTI_SZ:
		v, _, err := k.GetStringsValue(name)
		return v, err
	case registry.DWORD, registry.QWORD:
		v, _, err := k.GetIntegerValue(name)
		return v, err
	case registry.BINARY:
		v, _, err := k.GetBinaryValue(name)
		return v, err
	}
	return nil, nil
}

// Subkeys is [Keys.Subkeys].
func (Local) Subkeys(key string) ([]string, error) {
	k, err := open(key, registry.ENUMERATE_SUB_KEYS)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	names, err := k.ReadSubKeyNames(-1)
	return names, named(key, err)
}

// SetValues is [Registry.SetValues].
func (Local) SetValues(key string, values map[string]any) error {
	k, _, err := registry.CreateKey(registry.LOCAL_MACHINE, key, registry.SET_VALUE|view)
	if err != nil {
		return named(key, err)
	}
	defer k.Close()
	for name, v := range values {
		var err error
		switch v := v.(type) {
		case string:
			err = k.SetStringValue(name, v)
		case []string:
			err = k.SetStringsValue(name, v)
		case []byte:
			err = k.SetBinaryValue(name, v)
		case uint64:
			if v>>32 == 0 {
				err = k.SetDWordValue(name, uint32(v))
			} else {
				err = k.SetQWordValue(name, v)
			}
		default:
			err = fmt.Errorf("a value of type %T", v)
		}
		if err != nil {
			return named(key+`\`+name, err)
		}
	}
	return nil
}

// DeleteValue is [Registry.DeleteValue].
func (Local) DeleteValue(key, name string) error {
	k, err := open(key, registry.SET_VALUE)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer k.Close()
	if err := k.DeleteValue(name); err != nil && !errors.Is(err, registry.ErrNotExist) {
		return named(key+`\`+name, err)
	}
	return nil
}

// DeleteKey is [Registry.DeleteKey].
func (l Local) DeleteKey(key string) error {
	children, err := l.Subkeys(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, child := range children {
		if err := l.DeleteKey(key + `\` + child); err != nil {
			return err
		}
	}
	if err := registry.DeleteKey(registry.LOCAL_MACHINE, key); err != nil && !errors.Is(err, registry.ErrNotExist) {
		return named(key, err)
	}
	return nil
}
