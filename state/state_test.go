package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"
)

type record struct{ Name string }

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func bucket(t *testing.T, s *Store) *Bucket[record] {
	t.Helper()
	b, err := NewBucket[record](s, "things")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBucket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := open(t, path)
	b := bucket(t, s)
	if _, err := b.Get("a"); !errdefs.IsNotFound(err) {
		t.Errorf("Get of nothing: %v", err)
	}
	for _, id := range []string{"a", "b", "c"} {
		if err := b.Put(id, record{Name: id}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := b.Delete("b"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	all, err := bucket(t, open(t, path)).All()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]record{"a": {"a"}, "c": {"c"}}, all); diff != "" {
		t.Error(diff)
	}
}

func TestDamagedRecord(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "state.db"))
	b := bucket(t, s)
	if err := b.Put("good", record{Name: "good"}); err != nil {
		t.Fatal(err)
	}
	raw, err := NewBucket[json.RawMessage](s, "things")
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Put("bad", json.RawMessage(`{"Name": 7}`)); err != nil {
		t.Fatal(err)
	}
	all, err := b.All()
	if !errdefs.IsDataLoss(err) {
		t.Errorf("err = %v, want data loss", err)
	}
	if diff := cmp.Diff(map[string]record{"good": {"good"}}, all); diff != "" {
		t.Error(diff)
	}
	ids, err := b.IDs()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"bad", "good"}, ids); diff != "" {
		t.Error(diff)
	}
}

func TestNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := open(t, path)
	names, err := NewNames(s, "container")
	if err != nil {
		t.Fatal(err)
	}
	var winners atomic.Int64
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			err := names.Reserve("web", fmt.Sprint("id", i))
			var taken *TakenError
			switch {
			case err == nil:
				winners.Add(1)
			case !errors.As(err, &taken) || taken.Name != "web" || !errdefs.IsAlreadyExists(err):
				t.Errorf("Reserve: %v", err)
			}
		})
	}
	wg.Wait()
	if winners.Load() != 1 {
		t.Fatalf("%d got the name", winners.Load())
	}
	owner, err := names.Owner("web")
	if err != nil {
		t.Fatal(err)
	}
	if err := names.Reserve("web", owner); err != nil {
		t.Errorf("the owner reserving again: %v", err)
	}
	if err := names.Reserve("db", "other"); err != nil {
		t.Fatal(err)
	}
	if err := names.Rename("web", "db", owner); !errdefs.IsAlreadyExists(err) {
		t.Errorf("Rename to a taken name: %v", err)
	}
	if err := names.Rename("web", "shop", owner); err != nil {
		t.Fatal(err)
	}
	if err := names.Release("db"); err != nil {
		t.Fatal(err)
	}
	all, err := names.All()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"shop": owner}, all); diff != "" {
		t.Error(diff)
	}
}

func TestOpenRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := open(t, path)
	if _, err := Open(path); !errdefs.IsUnavailable(err) {
		t.Errorf("second Open: %v", err)
	}
	err := s.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(metaKey).Put(versionKey, []byte("99")) })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("Open of a newer schema: %v", err)
	}
}

func BenchmarkPutParallel(b *testing.B) {
	s, err := Open(filepath.Join(b.TempDir(), "state.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	things, err := NewBucket[record](s, "things")
	if err != nil {
		b.Fatal(err)
	}
	b.SetParallelism(15)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := things.Put("a", record{}); err != nil {
				b.Error(err)
			}
		}
	})
}
