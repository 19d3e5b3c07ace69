package job

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/windows"
)

// TestMain is the tests, or one of the programs that they run in containers: this file's own
// binary with "program" as its first argument.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "program" {
		os.Exit(programs[os.Args[2]](os.Args[3:]))
	}
	os.Exit(m.Run())
}

var programs = map[string]func(args []string) int{
	"exit":      exitProgram,
	"sleep":     sleepProgram,
	"cat":       catProgram,
	"env":       envProgram,
	"args":      argsProgram,
	"parent":    parentProgram,
	"breakaway": breakawayProgram,
	"fork":      forkProgram,
	"allocate":  allocateProgram,
	"count":     countProgram,
	"groups":    groupsProgram,
	"spin":      spinProgram,
	"send":      sendProgram,
	"console":   consoleProgram,
	"open":      openProgram,
}

func exitProgram(args []string) int {
	code, err := strconv.Atoi(args[0])
	if err != nil {
		return 99
	}
	return code
}

func sleepProgram([]string) int {
	time.Sleep(5 * time.Minute)
	return 0
}

func catProgram([]string) int {
	if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprint(os.Stderr, "end of input")
	return 0
}

func envProgram([]string) int {
	dir, err := os.Getwd()
	fmt.Println("dir", dir, err)
	for _, entry := range os.Environ() {
		fmt.Println(entry)
	}
	return 0
}

func argsProgram(args []string) int {
	for _, arg := range args {
		fmt.Printf("%q\n", arg)
	}
	return 0
}

// parentProgram starts a child that sleeps, which does the same so many times, says the ids
// of all, and exits or sleeps too.
func parentProgram(args []string) int {
	depth, err := strconv.Atoi(args[0])
	if err != nil {
		return 99
	}
	child := exec.Command(os.Args[0], "program", "sleep")
	if depth > 1 {
		child = exec.Command(os.Args[0], "program", "parent", strconv.Itoa(depth-1), "stay")
	}
	child.Stdout = os.Stdout
	// As far away from its parent as it gets.
	child.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.DETACHED_PROCESS | windows.CREATE_NEW_PROCESS_GROUP}
	if err := child.Start(); err != nil {
		fmt.Println(err)
		return 98
	}
	fmt.Println(child.Process.Pid)
	if args[1] == "stay" {
		return sleepProgram(nil)
	}
	return 0
}

func breakawayProgram([]string) int {
	child := exec.Command(os.Args[0], "program", "sleep")
	child.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_BREAKAWAY_FROM_JOB}
	err := child.Start()
	switch {
	case errors.Is(err, windows.ERROR_ACCESS_DENIED):
		return 5
	case err != nil:
		fmt.Println(err)
		return 98
	}
	fmt.Println(child.Process.Pid)
	return 0
}

// forkProgram starts children without end, each of which does the same.
func forkProgram([]string) int {
	for {
		child := exec.Command(os.Args[0], "program", "fork")
		if err := child.Start(); err != nil {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// allocateProgram takes so many MiB, one after the other, and writes to each page.
func allocateProgram(args []string) int {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return 99
	}
	kept := make([][]byte, 0, n)
	for range n {
		kept = append(kept, bytes.Repeat([]byte{1}, 1<<20))
		time.Sleep(5 * time.Millisecond)
	}
	defer runtime.KeepAlive(kept)
	return sleepProgram(nil)
}

// countProgram writes a line every few milliseconds.
func countProgram([]string) int {
	for i := range 100000 {
		if _, err := fmt.Println(i); err != nil {
			return 1
		}
		time.Sleep(5 * time.Millisecond)
	}
	return 0
}

// groupsProgram exits with 1 if its token has the group of administrators.
func groupsProgram([]string) int {
	administrators, err := windows.CreateWellKnownSid(windows.WinBuiltinAdministratorsSid)
	if err != nil {
		return 99
	}
	member, err := windows.Token(0).IsMember(administrators)
	if err != nil {
		fmt.Println(err)
		return 98
	}
	if member {
		return 1
	}
	return 0
}

func spinProgram([]string) int {
	for {
		runtime.Gosched()
	}
}

// sendProgram sends so many bytes to a URL.
func sendProgram(args []string) int {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return 99
	}
	response, err := http.Post(args[0], "application/octet-stream", bytes.NewReader(make([]byte, n)))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	response.Body.Close()
	return 0
}

// consoleProgram makes a console of its own and stays.
func consoleProgram([]string) int {
	_, _, _ = kernel32.NewProc("FreeConsole").Call()
	if ok, _, err := kernel32.NewProc("AllocConsole").Call(); ok == 0 {
		fmt.Println(err)
		return 1
	}
	fmt.Println("made")
	return sleepProgram(nil)
}

// openProgram opens a file for reading and writing, which makes it where it is missing.
func openProgram(args []string) int {
	file, err := os.OpenFile(args[0], os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		fmt.Println(err)
		return 5
	}
	file.Close()
	return 0
}
