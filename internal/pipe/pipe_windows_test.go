package pipe

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

func listen(t *testing.T, cfg ListenConfig) (net.Listener, string) {
	t.Helper()
	path := `\\.\pipe\slipway-test-` + rand.Text()
	listener, err := Listen(path, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener, path
}

// echo serves one connection after the other: what comes in goes out.
func echo(t *testing.T, listener net.Listener) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	t.Cleanup(func() { listener.Close(); <-done })
}

func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, errors.New("no connection in 10 s"))
	defer cancel()
	conn, err := Dial(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// pair returns both ends of one connection.
func pair(t *testing.T, cfg ListenConfig) (client, server net.Conn) {
	t.Helper()
	listener, path := listen(t, cfg)
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- conn
	}()
	client = dial(t, path)
	server = <-accepted
	if server == nil {
		t.FailNow()
	}
	t.Cleanup(func() { server.Close() })
	return client, server
}

func TestManyClientsAtOnce(t *testing.T) {
	listener, path := listen(t, ListenConfig{})
	echo(t, listener)
	errs := make(chan error)
	const clients = 20
	for i := range clients {
		conn := dial(t, path)
		go func() {
			// More than the buffers hold, so that it has to flow.
			sent := bytes.Repeat([]byte{byte(i)}, 5*bufferSize)
			go conn.Write(sent) //nolint:errcheck // the reader below sees what is missing
			got := make([]byte, len(sent))
			_, err := io.ReadFull(conn, got)
			if err == nil && !bytes.Equal(sent, got) {
				err = fmt.Errorf("client %d got something else back", i)
			}
			errs <- err
		}()
	}
	for range clients {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestCloseEndsTheOtherSide(t *testing.T) {
	conn, accepted := pair(t, ListenConfig{})
	if _, err := accepted.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	accepted.Close()
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != "last words" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestHalfClose(t *testing.T) {
	conn, accepted := pair(t, ListenConfig{MessageMode: true})
	if _, err := conn.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		t.Fatalf("%T has no CloseWrite", conn)
	}
	// Closing waits until the peer has read, as it flushes.
	closed := make(chan error, 1)
	go func() { closed <- half.CloseWrite() }()
	got, err := io.ReadAll(accepted)
	if err != nil || string(got) != "question" {
		t.Errorf("the server read %q, %v", got, err)
	}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if _, err := accepted.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 6)
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "answer" {
		t.Errorf("the client read %q, %v", answer, err)
	}
}

func TestNameIsTakenOnce(t *testing.T) {
	_, path := listen(t, ListenConfig{})
	second, err := Listen(path, ListenConfig{})
	if err == nil {
		second.Close()
		t.Fatal("a second listener took the name")
	}
	if !errdefs.IsAlreadyExists(err) {
		t.Errorf("%v is not ErrAlreadyExists", err)
	}
}

func TestNameIsFreeAfterClose(t *testing.T) {
	listener, path := listen(t, ListenConfig{})
	accepted := make(chan error, 1)
	go func() {
		_, err := listener.Accept()
		accepted <- err
	}()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v", err)
	}
	if err := listener.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	again, err := Listen(path, ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestNobodyListens(t *testing.T) {
	_, err := Dial(t.Context(), `\\.\pipe\slipway-test-`+rand.Text())
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not ErrNotExist", err)
	}
}

func TestProtectedName(t *testing.T) {
	path := Protected + "slipway-test-" + rand.Text()
	listener, err := Listen(path, ListenConfig{})
	if err != nil {
		t.Fatal(err)
	}
	echo(t, listener)
	conn := dial(t, path)
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

func TestBadDescriptor(t *testing.T) {
	if _, err := Listen(`\\.\pipe\slipway-test-`+rand.Text(), ListenConfig{SecurityDescriptor: "nonsense"}); err == nil {
		t.Error("accepted a descriptor that is none")
	}
}

// TestServerIsChecked has a process of its own serve the pipe, whose id has to be
// what the check is told.
func TestServerIsChecked(t *testing.T) {
	path := os.Getenv("SLIPWAY_TEST_SERVE")
	if path != "" {
		serveUntilStdinCloses(path)
		return
	}
	path = `\\.\pipe\slipway-test-` + rand.Text()
	server := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestServerIsChecked$")
	server.Env = append(os.Environ(), "SLIPWAY_TEST_SERVE="+path)
	input, err := server.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { input.Close(); _ = server.Wait() })
	if _, err := io.ReadFull(output, make([]byte, len("ready"))); err != nil {
		t.Fatal(err)
	}
	var told uint32
	conn, err := DialChecked(t.Context(), path, func(process uint32) error {
		told = process
		return Trusted(process)
	})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if int(told) != server.Process.Pid {
		t.Errorf("told process %d, want %d", told, server.Process.Pid)
	}
	refused := errors.New("somebody else")
	if conn, err := DialChecked(t.Context(), path, func(uint32) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("got %v, %v", conn, err)
	}
}

func serveUntilStdinCloses(path string) {
	listener, err := Listen(path, ListenConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() {
		for {
			if _, err := listener.Accept(); err != nil {
				return
			}
		}
	}()
	fmt.Print("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	listener.Close()
}
