// Package state keeps the engine's durable records in one bbolt file.
//
// A [Store] holds typed buckets of JSON values and registers of unique names.
// Every change is one synced transaction: when a call returns nil, the record
// has survived a power cut. Concurrent changes share a transaction, so that
// thirty clients do not pay for thirty syncs. The file has blocks in reserve:
// also on a full disk records can be changed and removed.
//
//	meta
//	└── version          schema version, decimal
//	records
//	└── <bucket>         one for each [Bucket]: containers, networks, ...
//	    └── <id>         JSON
//	names
//	└── <kind>           one for each [Names]: container, ...
//	    └── <name>       id of the owner
//
// A store written by a newer Slipway is refused; an older one is migrated step
// by step in one transaction when it is opened.
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

var (
	metaKey    = []byte("meta")
	recordsKey = []byte("records")
	namesKey   = []byte("names")
	versionKey = []byte("version")
)

// migrations[i] brings a store from version i to i+1.
var migrations = []func(*bolt.Tx) error{
	func(tx *bolt.Tx) error {
		for _, key := range [][]byte{metaKey, recordsKey, namesKey} {
			if _, err := tx.CreateBucketIfNotExists(key); err != nil {
				return err
			}
		}
		return nil
	},
}

// openTimeout bounds the wait for another process that has the file open.
const openTimeout = 2 * time.Second

// reserve is what the file has allocated beyond its end. bbolt never writes a
// page in place and lengthens its file without allocating, by up to 16 MiB at a
// time.
const reserve = 16 << 20

// Store is an open record file. It is safe for concurrent use.
//
// Lock order: writer, then mu.
type Store struct {
	db   *bolt.DB
	file *os.File // bbolt's, which closes it

	writer sync.Mutex // held during a write transaction
	held   int64      // bytes of the file that have blocks; guarded by writer
	mu     sync.Mutex // guards queue
	queue  []*change
}

// change is one call's part of a write transaction. It must leave the
// transaction untouched when it fails, because others share it.
type change struct {
	apply func(*bolt.Tx) error
	err   error
	done  bool // guarded by writer
}

// Open opens or creates the store in the file at path and migrates it to this
// version's schema. It returns [errdefs.ErrFailedPrecondition] if a newer
// Slipway wrote it, and [errdefs.ErrUnavailable] if another process has it open.
func Open(path string) (*Store, error) {
	s := &Store{}
	db, err := bolt.Open(path, 0o600, &bolt.Options{
		Timeout: openTimeout, FreelistType: bolt.FreelistMapType,
		OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
			var err error
			s.file, err = os.OpenFile(name, flag, perm)
			return s.file, err
		},
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, errdefs.ErrUnavailable.WithMessage(path + " is in use by another process: is a daemon running on this data root?")
	}
	if err != nil {
		return nil, fmt.Errorf("opening the record store %s: %w", path, err)
	}
	if err := db.Update(migrate); err != nil {
		return nil, errors.Join(fmt.Errorf("record store %s: %w", path, err), db.Close())
	}
	s.db = db
	s.keepReserve()
	return s, nil
}

// Close closes the file. It waits for transactions under way.
func (s *Store) Close() error {
	return s.db.Close()
}

// keepReserve allocates what the file lacks. The writer's lock is held, or
// nobody else has the store yet.
func (s *Store) keepReserve() {
	info, err := s.file.Stat()
	if err != nil || info.Size()+reserve <= s.held {
		return
	}
	// Twice, so that this is not asked for each time that the file grows a bit.
	if want := info.Size() + 2*reserve; preallocate(s.file, want) {
		s.held = want
	}
}

// update runs apply in a synced transaction together with all changes that
// gathered while the transaction before it was being synced.
func (s *Store) update(apply func(*bolt.Tx) error) error {
	c := &change{apply: apply}
	s.mu.Lock()
	s.queue = append(s.queue, c)
	s.mu.Unlock()

	s.writer.Lock()
	defer s.writer.Unlock()
	if c.done {
		return c.err
	}
	s.mu.Lock()
	batch := s.queue
	s.queue = nil
	s.mu.Unlock()
	err := s.db.Update(func(tx *bolt.Tx) error {
		for _, c := range batch {
			c.err = c.apply(tx)
		}
		return nil
	})
	s.keepReserve()
	for _, c := range batch {
		c.done = true
		if err != nil {
			c.err = fmt.Errorf("writing the record store: %w", err)
		}
	}
	return c.err
}

func migrate(tx *bolt.Tx) error {
	version := 0
	if meta := tx.Bucket(metaKey); meta != nil {
		var err error
		if version, err = strconv.Atoi(string(meta.Get(versionKey))); err != nil {
			return fmt.Errorf("unreadable schema version %q: %w", meta.Get(versionKey), errdefs.ErrDataLoss)
		}
	}
	if version > len(migrations) {
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf(
			"written by a newer version of Slipway (schema %d, this one knows up to %d): upgrade slipwayd", version, len(migrations)))
	}
	if version == len(migrations) {
		return nil
	}
	for i, step := range migrations[version:] {
		if err := step(tx); err != nil {
			return fmt.Errorf("migrating to schema %d: %w", version+i+1, err)
		}
	}
	return tx.Bucket(metaKey).Put(versionKey, strconv.AppendInt(nil, int64(len(migrations)), 10))
}

// Bucket is a set of records of type T by id. It is safe for concurrent use.
type Bucket[T any] struct {
	store *Store
	name  []byte
}

// NewBucket opens the bucket called name, and creates it if it is not there.
func NewBucket[T any](s *Store, name string) (*Bucket[T], error) {
	if err := s.create(recordsKey, name); err != nil {
		return nil, err
	}
	return &Bucket[T]{store: s, name: []byte(name)}, nil
}

func (s *Store) create(parent []byte, name string) error {
	there := false
	err := s.db.View(func(tx *bolt.Tx) error {
		there = tx.Bucket(parent).Bucket([]byte(name)) != nil
		return nil
	})
	if err != nil || there {
		return err // without a synced transaction
	}
	return s.update(func(tx *bolt.Tx) error {
		_, err := tx.Bucket(parent).CreateBucketIfNotExists([]byte(name))
		return err
	})
}

// Get returns the record of id, or [errdefs.ErrNotFound].
func (b *Bucket[T]) Get(id string) (T, error) {
	var value T
	err := b.store.db.View(func(tx *bolt.Tx) error {
		data := tx.Bucket(recordsKey).Bucket(b.name).Get([]byte(id))
		if data == nil {
			return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("no record of %s in %s", id, b.name))
		}
		return b.decode(id, data, &value)
	})
	return value, err
}

// Put writes the record of id, durably, and replaces an earlier one.
func (b *Bucket[T]) Put(id string, value T) error {
	data, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("record of %s in %s: %w", id, b.name, err)
	}
	return b.store.update(func(tx *bolt.Tx) error {
		return tx.Bucket(recordsKey).Bucket(b.name).Put([]byte(id), data)
	})
}

// Delete removes the record of id, durably. It is no error if there is none.
func (b *Bucket[T]) Delete(id string) error {
	return b.store.update(func(tx *bolt.Tx) error {
		return tx.Bucket(recordsKey).Bucket(b.name).Delete([]byte(id))
	})
}

// All returns every record by id. One that cannot be decoded is left out and
// named in the error, which is [errdefs.ErrDataLoss]; the others are valid then.
func (b *Bucket[T]) All() (map[string]T, error) {
	all := map[string]T{}
	var broken []error
	err := b.store.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(recordsKey).Bucket(b.name).ForEach(func(id, data []byte) error {
			var value T
			if err := b.decode(string(id), data, &value); err != nil {
				broken = append(broken, err)
				return nil
			}
			all[string(id)] = value
			return nil
		})
	})
	return all, errors.Join(append(broken, err)...)
}

// IDs returns the ids of all records, also of those that cannot be decoded.
func (b *Bucket[T]) IDs() ([]string, error) {
	var ids []string
	err := b.store.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(recordsKey).Bucket(b.name).ForEach(func(id, _ []byte) error {
			ids = append(ids, string(id))
			return nil
		})
	})
	return ids, err
}

func (b *Bucket[T]) decode(id string, data []byte, value *T) error {
	if err := json.Unmarshal(data, value); err != nil {
		return fmt.Errorf("record of %s in %s is damaged (%w): %w", id, b.name, err, errdefs.ErrDataLoss)
	}
	return nil
}

// Names is a register of unique names, each owned by an id. It is safe for
// concurrent use: of two that reserve the same name at once, one gets it.
type Names struct {
	store *Store
	kind  []byte
}

// NewNames opens the register of one kind of names.
func NewNames(s *Store, kind string) (*Names, error) {
	if err := s.create(namesKey, kind); err != nil {
		return nil, err
	}
	return &Names{store: s, kind: []byte(kind)}, nil
}

// TakenError says who owns a name that was asked for. It is [errdefs.ErrAlreadyExists].
type TakenError struct {
	Name, Owner string
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("the name %q is in use by %s", e.Name, e.Owner)
}

// Unwrap gives the error's class.
func (e *TakenError) Unwrap() error { return errdefs.ErrAlreadyExists }

// Reserve gives name to id, durably. If another id has it, it returns a
// [*TakenError]; if id itself has it already, nil.
func (n *Names) Reserve(name, id string) error {
	return n.update(func(b *bolt.Bucket) error { return n.reserve(b, name, id) })
}

// Rename moves id from the name from to the name to in one step. Its errors are
// those of [Names.Reserve].
func (n *Names) Rename(from, to, id string) error {
	return n.update(func(b *bolt.Bucket) error {
		if err := n.reserve(b, to, id); err != nil || from == to {
			return err
		}
		return b.Delete([]byte(from))
	})
}

// Release frees name, durably. It is no error if nobody has it.
func (n *Names) Release(name string) error {
	return n.update(func(b *bolt.Bucket) error { return b.Delete([]byte(name)) })
}

// Owner returns the id that has name, or [errdefs.ErrNotFound].
func (n *Names) Owner(name string) (string, error) {
	var owner string
	err := n.store.db.View(func(tx *bolt.Tx) error {
		owner = string(tx.Bucket(namesKey).Bucket(n.kind).Get([]byte(name)))
		return nil
	})
	if err == nil && owner == "" {
		err = errdefs.ErrNotFound.WithMessage(fmt.Sprintf("nothing is called %q", name))
	}
	return owner, err
}

// All returns every name with its owner.
func (n *Names) All() (map[string]string, error) {
	all := map[string]string{}
	err := n.store.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(namesKey).Bucket(n.kind).ForEach(func(name, id []byte) error {
			all[string(name)] = string(id)
			return nil
		})
	})
	return all, err
}

func (n *Names) update(change func(*bolt.Bucket) error) error {
	return n.store.update(func(tx *bolt.Tx) error {
		return change(tx.Bucket(namesKey).Bucket(n.kind))
	})
}

func (n *Names) reserve(b *bolt.Bucket, name, id string) error {
	if owner := b.Get([]byte(name)); owner != nil && string(owner) != id {
		return &TakenError{Name: name, Owner: string(owner)}
	}
	return b.Put([]byte(name), []byte(id))
}
