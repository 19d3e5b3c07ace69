package sqlserver

import (
	"strings"
	"testing"

	"slipway/internal/sqlinstance"
	"slipway/internal/sqlinstance/sqlinstancetest"

	"github.com/google/go-cmp/cmp"
)

// sandbox is the machine's registry, with a key of the test in the place of SQL Server's: a machine may have one.
type sandbox struct{ sqlinstance.Local }

const sandboxKey = `SOFTWARE\SlipwayTest\sqlserver`

func place(key string) string {
	return sandboxKey + strings.TrimPrefix(key, sqlinstance.Root)
}

func (s sandbox) Values(key string) (map[string]any, error) { return s.Local.Values(place(key)) }
func (s sandbox) Subkeys(key string) ([]string, error)      { return s.Local.Subkeys(place(key)) }
func (s sandbox) DeleteKey(key string) error                { return s.Local.DeleteKey(place(key)) }
func (s sandbox) DeleteValue(key, name string) error        { return s.Local.DeleteValue(place(key), name) }

func (s sandbox) SetValues(key string, values map[string]any) error {
	return s.Local.SetValues(place(key), values)
}

// copyAll copies keys from memory.
func copyAll(t *testing.T, from *sqlinstancetest.Registry, to sqlinstance.Registry, key string) {
	t.Helper()
	values, err := from.Values(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := to.SetValues(key, values); err != nil {
		t.Fatal(err)
	}
	children, err := from.Subkeys(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, child := range children {
		copyAll(t, from, to, key+`\`+child)
	}
}

// TestInstanceInRegistry makes and removes instances in the machine's own registry.
func TestInstanceInRegistry(t *testing.T) {
	r := sandbox{}
	t.Cleanup(func() {
		if err := r.DeleteKey(sqlinstance.Root); err != nil {
			t.Error(err)
		}
	})
	memory := sqlinstancetest.Express2019()
	copyAll(t, memory, r, sqlinstance.Root)
	before, problems, err := sqlinstance.Find(r)
	if err != nil || len(problems) > 0 || len(before) != 1 {
		t.Fatal(before, problems, err)
	}
	instances := []Instance{
		{Name: "SW_ONE", Origin: before[0], Root: `C:\slipway\one`, Port: 50001},
		{Name: "SW_TWO", Origin: before[0], Root: `C:\slipway\two`, Port: 50002},
	}
	for _, i := range instances {
		if err := i.Register(r); err != nil {
			t.Fatal(err)
		}
		if err := i.Register(memory); err != nil {
			t.Fatal(err)
		}
	}
	got, problems, err := sqlinstance.Find(r)
	if err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
	want, _, err := sqlinstance.Find(memory)
	if err != nil || len(want) != 3 {
		t.Fatal(want, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("memory and the registry differ: %s", diff)
	}
	for _, i := range instances {
		if err := i.Unregister(r); err != nil {
			t.Error(err)
		}
	}
	if after, _, err := sqlinstance.Find(r); err != nil || cmp.Diff(before, after) != "" {
		t.Error(after, err)
	}
	if keys, err := r.Subkeys(sqlinstance.Root); err != nil || len(keys) != 2 {
		t.Errorf("keys are left: %v, %v", keys, err)
	}
}
