// Forwarddll writes a Windows DLL without code whose exports are forwarders to
// functions of other DLLs:
//
//	forwarddll -o bcryptprimitives.dll ProcessPrng=advapi32.SystemFunction036
//
// Wine 8 has no bcryptprimitives.dll, which every Go program asks for random
// bytes; the line above is what makes Go programs start there (script/wine).
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	output := flag.String("o", "", "the `file` to write; its base name is the DLL's")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: forwarddll -o NAME.dll EXPORT=DLL.FUNCTION...")
		flag.PrintDefaults()
	}
	flag.Parse()
	if *output == "" || flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*output, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "forwarddll:", err)
		os.Exit(1)
	}
}

func run(output string, args []string) error {
	forwards := map[string]string{}
	for _, arg := range args {
		export, target, err := parseForward(arg)
		if err != nil {
			return err
		}
		if _, double := forwards[export]; double {
			return fmt.Errorf("%s is given twice", export)
		}
		forwards[export] = target
	}
	image, err := build(filepath.Base(output), forwards)
	if err != nil {
		return err
	}
	return os.WriteFile(output, image, 0o644) //nolint:gosec // a program is for everybody
}

// parseForward takes EXPORT=DLL.FUNCTION apart.
func parseForward(arg string) (export, target string, err error) {
	export, target, found := strings.Cut(arg, "=")
	dll, function, dotted := strings.Cut(target, ".")
	if !found || !dotted || export == "" || dll == "" || function == "" {
		return "", "", errors.New(arg + " is not of the form EXPORT=DLL.FUNCTION")
	}
	return export, target, nil
}
