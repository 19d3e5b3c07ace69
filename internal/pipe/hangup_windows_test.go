package pipe

import (
	"testing"
	"time"
)

func TestHungUp(t *testing.T) {
	client, server := pair(t, ListenConfig{MessageMode: true})
	if HungUp(server) {
		t.Fatal("a connection that is open has hung up")
	}
	closed := make(chan error, 1) // it waits for the reader
	go func() { closed <- client.(interface{ CloseWrite() error }).CloseWrite() }()
	if n, err := server.Read(make([]byte, 1)); err == nil {
		t.Fatalf("read %d bytes after the end of the client's half", n)
	}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if HungUp(server) {
		t.Error("a connection of which one half was closed has hung up")
	}
}

// TestHungUpUnread: what is unread does not hide that its sender has gone.
func TestHungUpUnread(t *testing.T) {
	client, server := pair(t, ListenConfig{MessageMode: true})
	if _, err := client.Write([]byte("unread")); err != nil {
		t.Fatal(err)
	}
	if HungUp(server) {
		t.Fatal("a connection that is open has hung up")
	}
	client.Close()
	deadline := time.Now().Add(10 * time.Second)
	for !HungUp(server) {
		if time.Now().After(deadline) {
			t.Fatal("the client closed, and it does not show")
		}
		time.Sleep(5 * time.Millisecond)
	}
}
