package sqlinstance

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestLocal reads back from the machine's registry what it wrote there, beneath a key of its own.
func TestLocal(t *testing.T) {
	const key = `SOFTWARE\SlipwayTest\sqlinstance`
	l := Local{}
	t.Cleanup(func() {
		if err := l.DeleteKey(key); err != nil {
			t.Error(err)
		}
		if _, err := l.Values(key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a removed key: %v", err)
		}
	})
	want := map[string]any{"text": "ä", "list": []string{"a", "b"}, "number": uint64(2), "large": uint64(1) << 40, "bytes": []byte{0, 1}}
	if err := l.SetValues(key+`\deep\er`, want); err != nil {
		t.Fatal(err)
	}
	got, err := l.Values(key + `\DEEP\er`)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if names, err := l.Subkeys(key); err != nil || len(names) != 1 || names[0] != "deep" {
		t.Error(names, err)
	}
	for range 2 { // the second time there is nothing to remove
		if err := l.DeleteValue(key+`\deep\er`, "text"); err != nil {
			t.Error(err)
		}
	}
	if got, err := l.Values(key + `\deep\er`); err != nil || len(got) != 4 {
		t.Error(got, err)
	}
	if _, err := l.Values(key + `\nothing`); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key that is not there: %v", err)
	}
}

// TestFindLocal finds in the machine's registry what is there; on a machine without SQL Server that is nothing.
func TestFindLocal(t *testing.T) {
	found, problems, err := Find(Local{})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(found, problems)
}
