package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"slipway/image/fromdir"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

// importDirOptions are the flags of image import-dir.
type importDirOptions struct {
	entrypoint, cmd, workdir, message, database string
	env, labels, volumes, expose, changes       []string
	quiet                                       bool
}

func newImportDir(s streams, d *daemonClient) *cobra.Command {
	var o importDirOptions
	cmd := &cobra.Command{
		Use:   "import-dir DIR NAME[:TAG]",
		Short: "Make an image of a folder",
		Long: "Makes an image whose root directory is a folder of this machine, and of nothing else. The files are streamed to the\n" +
			"daemon; nothing is written beside it. Sockets, devices and directory junctions are left out.",
		Example: "  slipway image import-dir ./app app:1 --entrypoint '[\"/app/server\"]' --env PORT=80 --expose 80\n" +
			"  slipway image import-dir C:\\pgsql postgres:15 --volume C:/pgdata --database postgres",
		Args: usage(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return importDir(cmd.Context(), s, d, args[0], args[1], o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.entrypoint, "entrypoint", "", "entrypoint, a JSON array or a line for the shell")
	f.StringVar(&o.cmd, "cmd", "", "command, a JSON array or a line for the shell")
	f.StringArrayVarP(&o.env, "env", "e", nil, "environment variable KEY=VALUE")
	f.StringArrayVarP(&o.labels, "label", "l", nil, "label KEY=VALUE")
	f.StringArrayVar(&o.volumes, "volume", nil, "path in the image that becomes a volume")
	f.StringArrayVar(&o.expose, "expose", nil, "port that the software listens on")
	f.StringVarP(&o.workdir, "workdir", "w", "", "working directory")
	f.StringVar(&o.database, "database", "", "database engine whose data the volumes have, such as postgres: makes it a data image")
	f.StringArrayVarP(&o.changes, "change", "c", nil, "Dockerfile instruction, as for docker import")
	f.StringVarP(&o.message, "message", "m", "", "message in the image's history")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "show no progress")
	return cmd
}

// instructions are the flags as Dockerfile instructions, those of --change last.
func (o *importDirOptions) instructions() ([]string, error) {
	var lines []string
	for _, e := range o.env {
		line, err := pair("ENV", e)
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	labels := o.labels
	if o.database != "" {
		labels = append([]string{"io.slipway.database=" + o.database}, labels...)
	}
	for _, l := range labels {
		line, err := pair("LABEL", l)
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	if o.entrypoint != "" {
		lines = append(lines, "ENTRYPOINT "+o.entrypoint)
	}
	if o.cmd != "" {
		lines = append(lines, "CMD "+o.cmd)
	}
	for _, v := range o.volumes {
		path, err := json.Marshal([]string{v})
		if err != nil {
			return nil, err
		}
		lines = append(lines, "VOLUME "+string(path))
	}
	for _, p := range o.expose {
		lines = append(lines, "EXPOSE "+p)
	}
	if o.workdir != "" {
		lines = append(lines, "WORKDIR "+escape(o.workdir))
	}
	for _, line := range lines {
		if strings.ContainsAny(line, "\r\n") {
			return nil, usageError{fmt.Errorf("a value with a line break cannot be given here: %q", line)}
		}
	}
	return append(lines, o.changes...), nil
}

// pair makes an instruction of a key and a value that may have any character.
func pair(instruction, text string) (string, error) {
	key, value, ok := strings.Cut(text, "=")
	if !ok || key == "" {
		return "", usageError{fmt.Errorf("%q is not of the form KEY=VALUE", text)}
	}
	return fmt.Sprintf(`%s "%s"="%s"`, instruction, escape(key), escape(value)), nil
}

// escape protects what a Dockerfile would take out of a word in double quotes.
var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`).Replace

func importDir(ctx context.Context, s streams, d *daemonClient, dir, name string, o importDirOptions) error {
	if _, err := reference.ParseNormalizedNamed(name); err != nil {
		return usageError{fmt.Errorf("%q cannot be an image's name: %w", name, err)}
	}
	changes, err := o.instructions()
	if err != nil {
		return err
	}
	folder, err := fromdir.Open(ctx, dir)
	if errdefs.IsInvalidArgument(err) || errdefs.IsNotFound(err) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	if len(folder.LeftOut) > 0 {
		fmt.Fprintf(s.err, "left out, because an image cannot have them: %s\n", strings.Join(folder.LeftOut, " "))
	}
	var progress fromdir.Progress
	if s.terminal() && !o.quiet {
		progress = func(done, total int64) {
			fmt.Fprintf(s.err, "\r%s: %3d%% of %s ", name, done*100/max(total, 1), size(total))
			if done == total {
				fmt.Fprintln(s.err)
			}
		}
	}
	if o.message == "" {
		o.message = "Imported from the folder " + dir
	}
	return stream(ctx, d, func(w io.Writer) error { return folder.WriteTo(ctx, w, progress) },
		func(cli *client.Client, r io.Reader) error {
			return importStream(ctx, s, d, cli, r, name, o.message, changes)
		})
}

// stream connects what write writes to what send sends to the daemon. If both fail, it is
// write's error that tells why, unless that is only that nobody reads any more.
func stream(ctx context.Context, d *daemonClient, write func(io.Writer) error, send func(*client.Client, io.Reader) error) error {
	cli, err := d.connect()
	if err != nil {
		return err
	}
	defer cli.Close()
	if _, err := cli.Ping(ctx, client.PingOptions{}); err != nil { // before much is read for nothing
		return d.unreachable(ctx, err)
	}
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := write(w)
		w.CloseWithError(err)
		written <- err
	}()
	err = send(cli, r)
	_ = r.CloseWithError(errStopped)
	writeErr := <-written
	if errors.Is(writeErr, errStopped) || errors.Is(writeErr, io.ErrClosedPipe) { // the transport's words
		writeErr = nil
	}
	if writeErr != nil {
		return writeErr
	}
	return err
}

var errStopped = errors.New("the daemon stopped reading")

func importStream(ctx context.Context, s streams, d *daemonClient, cli *client.Client, r io.Reader, name, message string, changes []string) error {
	result, err := cli.ImageImport(ctx, client.ImageImportSource{Source: r, SourceName: "-"}, name, client.ImageImportOptions{Message: message, Changes: changes})
	if err != nil {
		return d.unreachable(ctx, err)
	}
	defer result.Close()
	return showMessages(result, func(m jsonstream.Message) {
		if m.Status != "" {
			fmt.Fprintln(s.out, m.Status)
		}
	})
}

// showMessages hands the messages of the daemon's answer to show until its end, or
// returns the error that one of them is.
func showMessages(answer io.Reader, show func(jsonstream.Message)) error {
	for dec := json.NewDecoder(answer); ; {
		var m jsonstream.Message
		switch err := dec.Decode(&m); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("the daemon's answer: %w", err)
		case m.Error != nil:
			return m.Error
		default:
			show(m)
		}
	}
}
