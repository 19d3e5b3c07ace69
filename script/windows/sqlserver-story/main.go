// SQL Server up to 2017 makes itself certificates with negative serial numbers.
//go:debug x509negativeserial=1

// Command sqlserver-story shows on a Windows machine with SQL Server what containers make of it: an MDF is copied into a container with
// docker cp, attached, committed, and cloned twice; each clone is changed, and neither sees the other.
//
// It is of tier E (docs/windows.md): only a real machine can run it. Its statements are played against doubles of SQL Server
// by its test. Microsoft's documentation for each is in docs/sqlserver.md.
//
//	sqlserver-story -image sqlserver:2019 -mdf customers.mdf [-ldf customers_log.ldf] [-database customers]
//
// It needs docker in the PATH, with DOCKER_HOST if that is not the default. What it makes is named slipway-story… and removed at the end.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
)

func main() {
	s := story{
		out: os.Stdout, docker: docker,
		dial: func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		},
		// A policy of Windows wants several kinds of characters.
		password: func() string { return "Aa1!" + rand.Text() },
	}
	flag.StringVar(&s.image, "image", "", "image of an instance of SQL Server")
	flag.StringVar(&s.mdf, "mdf", "", "primary file of the database")
	flag.StringVar(&s.ldf, "ldf", "", "its log; without one a new log is made")
	flag.StringVar(&s.database, "database", "customers", "name that the database gets")
	flag.Parse()
	if s.image == "" || s.mdf == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := s.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "sqlserver-story:", err)
		os.Exit(1) //nolint:gocritic // nothing waits for the signal any more
	}
}

// docker runs the client; env are variables that -e without a value passes on, so that no password is in an argument.
func docker(ctx context.Context, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}
