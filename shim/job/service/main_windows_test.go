package service

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"testing"
	"time"
)

// TestMain is the tests, the shim's program when containerd or the shim itself runs this file's binary with
// the shim's arguments, or one of the programs that the tests run in containers.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "program" {
		os.Exit(programs[os.Args[2]](os.Args[3:]))
	}
	if len(os.Args) > 2 && (os.Args[1] == "-namespace" || os.Args[1] == breakAction) {
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
