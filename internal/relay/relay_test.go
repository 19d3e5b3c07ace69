package relay_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"slipway/internal/relay"
)

// store is what a receiver keeps when it is killed, and a place where the next can be reached.
type store struct {
	bytes []byte
	conns chan net.Conn
}

func newStore() *store { return &store{conns: make(chan net.Conn)} }

// dial is the sender's way to the receiver that runs at the time.
func (s *store) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case s.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// receive runs one receiver until the stream has ended or it has read about limit bytes, when it dies: with bytes
// that it has read and not stored, stored and not acknowledged, or neither.
func (s *store) receive(limit int) (ended bool) {
	conn := <-s.conns
	receipts := relay.NewReceipts(conn, int64(len(s.bytes)))
	defer receipts.Close()
	defer conn.Close()
	buf := make([]byte, 5000)
	for {
		n, err := conn.Read(buf[:1+rand.IntN(len(buf))])
		if limit -= n; limit < 0 {
			switch rand.IntN(3) {
			case 0:
				s.bytes = append(s.bytes, buf[:n]...)
			case 1:
				s.bytes = append(s.bytes, buf[:n/2]...)
			}
			return false
		}
		s.bytes = append(s.bytes, buf[:n]...)
		receipts.Stored(int64(len(s.bytes)))
		if errors.Is(err, io.EOF) {
			return true
		}
		if err != nil {
			return false
		}
	}
}

func TestEveryByteOnceThoughReceiversDie(t *testing.T) {
	want := make([]byte, 3<<20)
	for i := range want {
		want[i] = byte(i * 7919 >> 8)
	}
	s := newStore()
	ended := make(chan int)
	go func() {
		deaths := 0
		for !s.receive(1 + rand.IntN(200_000)) {
			deaths++
		}
		ended <- deaths
	}()
	sender := relay.NewSender(t.Context(), s.dial)
	for rest := want; len(rest) > 0; {
		n := min(len(rest), 1+rand.IntN(100_000))
		if _, err := sender.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := sender.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	deaths := <-ended
	if deaths < 5 {
		t.Errorf("only %d receivers died", deaths)
	}
	if !bytes.Equal(s.bytes, want) {
		t.Errorf("%d bytes were stored of %d, or others", len(s.bytes), len(want))
	}
	if _, err := sender.Write([]byte("x")); err == nil {
		t.Error("writing after the end succeeds")
	}
}

func TestReceiverThatForgot(t *testing.T) {
	s := newStore()
	sender := relay.NewSender(t.Context(), s.dial)
	if _, err := sender.Write([]byte("lost ")); err != nil {
		t.Fatal(err)
	}
	conn := <-s.conns
	receipts := relay.NewReceipts(conn, 0)
	if _, err := io.ReadFull(conn, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	receipts.Stored(5)
	if _, err := sender.Write([]byte("kept")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil { // and with it the receipt has arrived, nearly always
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	_ = conn.Close()
	receipts.Close()
	ended := make(chan bool)
	go func() { ended <- s.receive(1000) }() // at 0 again
	if err := sender.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !<-ended || string(s.bytes) != "kept" {
		t.Errorf("stored: %q", s.bytes)
	}
}

func TestFullWindowWaitsAndCloseGivesUp(t *testing.T) {
	s := newStore()
	sender := relay.NewSender(t.Context(), s.dial)
	wrote := make(chan int)
	go func() {
		n, _ := sender.Write(make([]byte, 1<<20))
		wrote <- n
	}()
	select {
	case n := <-wrote:
		t.Fatalf("%d bytes were taken without a receiver", n)
	case <-time.After(100 * time.Millisecond):
	}
	gone := errors.New("gone")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, gone)
	defer cancel()
	if err := sender.Close(ctx); !errors.Is(err, gone) {
		t.Errorf("Close without a receiver: %v", err)
	}
	if n := <-wrote; n != 64<<10 {
		t.Errorf("%d bytes were kept", n)
	}
}

func TestCloseWithoutReceiver(t *testing.T) {
	sender := relay.NewSender(t.Context(), newStore().dial)
	if err := sender.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestPlainWriter: a sender that knows nothing of positions and never reads them.
func TestPlainWriter(t *testing.T) {
	s := newStore()
	ended := make(chan bool)
	go func() { ended <- s.receive(1 << 30) }()
	conn, err := s.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("0123456789"), 10_000)
	if _, err := conn.Write(want); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if !<-ended || !bytes.Equal(s.bytes, want) {
		t.Errorf("%d bytes were stored", len(s.bytes))
	}
}
