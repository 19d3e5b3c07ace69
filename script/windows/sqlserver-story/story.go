package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"slipway/database/sqlserver"

	"github.com/containerd/errdefs"
)

const (
	original = "slipway-story"
	golden   = "slipway-story:gold"
	port     = "1433/tcp"
	// startTime is how long a server may take to answer for the first time, with the recovery of its databases.
	startTime = 5 * time.Minute
)

// story is one run.
type story struct {
	out      io.Writer
	docker   func(ctx context.Context, env []string, args ...string) (string, error)
	dial     func(ctx context.Context, address string) (net.Conn, error)
	password func() string

	image, mdf, ldf, database string
}

// run tells the story and removes what it made, also after a failure.
func (s *story) run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, s.clean(context.WithoutCancel(ctx))) }()
	if err := s.gold(ctx); err != nil {
		return err
	}
	clones := []string{original + "-alice", original + "-bob"}
	servers := make([]*sqlserver.Server, len(clones))
	for i, name := range clones {
		server, root, err := s.start(ctx, name, golden)
		if err != nil {
			return err
		}
		defer server.Close()
		servers[i] = server
		if err := s.own(ctx, server, root); err != nil {
			return fmt.Errorf("clone %s: %w", name, err)
		}
		if err := server.Run(ctx, s.database, "CREATE TABLE dbo.slipway_story (who nvarchar(40) NOT NULL);",
			"INSERT INTO dbo.slipway_story (who) VALUES (N'"+name+"');"); err != nil {
			return fmt.Errorf("write into clone %s: %w", name, err)
		}
	}
	for i, server := range servers {
		who, err := server.Column(ctx, s.database, "SELECT who FROM dbo.slipway_story;")
		if err != nil {
			return fmt.Errorf("read clone %s: %w", clones[i], err)
		}
		if !slices.Equal(who, clones[i:i+1]) {
			return fmt.Errorf("clone %s holds %q", clones[i], who)
		}
		s.say("%s holds what was written into it, and nothing else", clones[i])
	}
	return nil
}

// gold makes the image: it attaches the files in a container and commits that.
func (s *story) gold(ctx context.Context) error {
	server, root, err := s.start(ctx, original, s.image)
	if err != nil {
		return err
	}
	defer server.Close()
	a := sqlserver.Attachment{Database: s.database, RebuildLog: s.ldf == ""}
	for _, file := range []string{s.mdf, s.ldf} {
		if file == "" {
			continue
		}
		if _, err := s.docker(ctx, nil, "cp", file, original+":/"); err != nil {
			return err
		}
		path, err := sqlserver.ServerPath(root, "/"+filepath.Base(file))
		if err != nil {
			return err
		}
		a.Paths = append(a.Paths, path)
	}
	attached, err := server.Attach(ctx, a)
	if err != nil {
		return err
	}
	s.say("%s is attached in %s", s.database, original)
	for _, note := range attached.Notes {
		s.say("note: %s", note)
	}
	// A server that runs is not committed: only a stop leaves its system databases in one piece.
	if err := server.Shutdown(ctx, false); err != nil {
		return err
	}
	for _, args := range [][]string{{"stop", original}, {"commit", original, golden}} {
		if _, err := s.docker(ctx, nil, args...); err != nil {
			return err
		}
	}
	s.say("%s is committed as %s", original, golden)
	return nil
}

// start runs a container with a password of its own, and logs in. root is the container's root directory, as the server sees it.
func (s *story) start(ctx context.Context, name, image string) (server *sqlserver.Server, root string, err error) {
	password := s.password()
	_, err = s.docker(ctx, []string{sqlserver.EnvPassword + "=" + password},
		"run", "-d", "--name", name, "-P", "-l", "io.slipway.database=sqlserver", "-e", sqlserver.EnvPassword, image)
	if err != nil {
		return nil, "", err
	}
	root, err = s.docker(ctx, nil, "exec", name, "cmd", "/c", "echo %CONTAINER_ROOT%")
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, errors.New("the server does not answer"))
	defer cancel()
	login := sqlserver.Login{User: "sa", Password: password, Dial: func(ctx context.Context) (net.Conn, error) {
		address, err := s.docker(ctx, nil, "port", name, port)
		if err != nil {
			return nil, err
		}
		address, _, _ = strings.Cut(address, "\n") // the first of several addresses
		return s.dial(ctx, strings.Replace(strings.TrimSpace(address), "0.0.0.0:", "127.0.0.1:", 1))
	}}
	for {
		server, err = sqlserver.Connect(ctx, login)
		// A clone has the password of its original until its first start is finished, and its port is closed as long.
		if err == nil || !errdefs.IsUnavailable(err) {
			break
		}
		select {
		case <-ctx.Done():
			return nil, "", fmt.Errorf("log in to %s: %w", name, err)
		case <-time.After(time.Second):
		}
	}
	if err != nil {
		return nil, "", fmt.Errorf("log in to %s: %w", name, err)
	}
	s.say("%s runs in %s", name, root)
	return server, strings.TrimRight(root, `\`), nil
}

// own checks that every file of a server lies beneath its container's root: a clone must not have its original's open.
func (s *story) own(ctx context.Context, server *sqlserver.Server, root string) error {
	files, err := server.Files(ctx)
	if err != nil {
		return err
	}
	for _, f := range files {
		if !strings.HasPrefix(strings.ToLower(f.Path), strings.ToLower(root)+`\`) {
			return fmt.Errorf("its file %s lies outside of its root %s", f.Path, root)
		}
	}
	return nil
}

// clean removes what a run makes; what was not made is no error.
func (s *story) clean(ctx context.Context) error {
	_, err := s.docker(ctx, nil, "rm", "-f", "-v", original, original+"-alice", original+"-bob")
	_, imageErr := s.docker(ctx, nil, "rmi", "-f", golden)
	return errors.Join(err, imageErr)
}

func (s *story) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }
