package service

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/windows"
)

// TestMain is the tests, the shim's program when containerd or the shim itself runs this file's binary with
// the shim's arguments, or one of the programs that the tests run in containers.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "program" {
		os.Exit(programs[os.Args[2]](os.Args[3:]))
	}
	if len(os.Args) > 2 && (os.Args[1] == "-namespace" || os.Args[1] == breakAction || os.Args[1] == consoleAction) {
		if err := Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var programs = map[string]func(args []string) int{
	"exit": func(args []string) int {
		code, err := strconv.Atoi(args[0])
		if err != nil {
			return 99
		}
		fmt.Println("to the output")
		fmt.Fprintln(os.Stderr, "to the error output")
		return code
	},
	"sleep": func([]string) int {
		fmt.Println("sleeping")
		time.Sleep(5 * time.Minute)
		return 0
	},
	"cat": func([]string) int {
		if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
			return 1
		}
		return 0
	},
	"count": func([]string) int {
		for i := range 100000 {
			fmt.Println(i)
			time.Sleep(5 * time.Millisecond)
		}
		return 0
	},
	// trap exits with 42 when it is asked to end.
	"trap": func([]string) int {
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, os.Interrupt)
		fmt.Println("ready")
		<-asked
		return 42
	},
	// console says the size of its console whenever it changes, and exits with 42 at Ctrl-C.
	"console": func([]string) int {
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, os.Interrupt)
		for last := ""; ; {
			var info windows.ConsoleScreenBufferInfo
			if err := windows.GetConsoleScreenBufferInfo(windows.Handle(os.Stdout.Fd()), &info); err != nil {
				fmt.Println(err)
				return 1
			}
			size := fmt.Sprintf("%dx%d", info.Window.Right-info.Window.Left+1, info.Window.Bottom-info.Window.Top+1)
			if size != last {
				fmt.Println(size)
			}
			last = size
			select {
			case <-asked:
				return 42
			case <-time.After(20 * time.Millisecond):
			}
		}
	},
	"whoami": func([]string) int {
		user, err := windows.GetCurrentProcessToken().GetTokenUser()
		if err != nil {
			return 1
		}
		account, domain, _, err := user.User.Sid.LookupAccount("")
		fmt.Println(domain, account, err)
		return 0
	},
	// leave ends and leaves a process that has its output.
	"leave": func([]string) int {
		child := exec.Command(os.Args[0], "program", "sleep")
		child.Stdout, child.Stderr = os.Stdout, os.Stderr
		if err := child.Start(); err != nil {
			fmt.Println(err)
			return 1
		}
		return 0
	},
	// until ends when there is a file of that name.
	"until": func(args []string) int {
		for {
			if _, err := os.Stat(args[0]); err == nil {
				return 0
			}
			time.Sleep(10 * time.Millisecond)
		}
	},
	"touch": func(args []string) int {
		if err := os.WriteFile(args[0], nil, 0o644); err != nil {
			fmt.Println(err)
			return 1
		}
		return 0
	},
	"allocate": func([]string) int {
		var kept [][]byte
		for range 500 {
			kept = append(kept, make([]byte, 1<<20))
			for i := range kept[len(kept)-1] {
				kept[len(kept)-1][i] = 1
			}
			time.Sleep(5 * time.Millisecond)
		}
		return len(kept) % 2
	},
}
