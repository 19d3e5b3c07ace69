// Package agent runs programs in a virtual machine for tests outside of it, over
// one stream of bytes such as a virtio serial port. Both sides write messages as
// lines of JSON; those of one program carry its number. Several programs run at
// once. Nothing is said about files: `cat` and `sh` do that.
//
// Lock order: Client.mu and the two write locks are leaves; none is held while
// another is taken.
package agent

import (
	"encoding/json"
	"errors"
	"io"
	"sync"
)

// message is one line. The first of a program comes from outside and has Argv;
// its last comes from the machine and has Exit.
type message struct {
	ID   int64
	Argv []string `json:",omitempty"`
	Env  []string `json:",omitempty"`
	In   []byte   `json:",omitempty"` // for standard input
	EOF  bool     `json:",omitempty"` // standard input has ended
	Kill bool     `json:",omitempty"`
	Out  []byte   `json:",omitempty"`
	Err  []byte   `json:",omitempty"`
	Exit *int     `json:",omitempty"` // -1: could not be started or was killed
}

// sender writes whole messages for many.
type sender struct {
	mu  sync.Mutex
	enc *json.Encoder
}

func newSender(w io.Writer) *sender { return &sender{enc: json.NewEncoder(w)} }

func (s *sender) send(m message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.enc.Encode(m)
}

// ErrGone is what waiting for a program ends with when the stream has ended.
var ErrGone = errors.New("the machine is gone")
