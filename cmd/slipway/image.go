package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"slipway/image/fromhost"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client"
	"github.com/spf13/cobra"
)

func newImage(s streams, d *daemonClient) *cobra.Command {
	return group("image", "Images", newFromHost(s, d), newImportDir(s, d))
}

// fromHostOptions are the flags of image from-host.
type fromHostOptions struct {
	tag, output   string
	format        formatValue
	dryRun, quiet bool
}

func newFromHost(s streams, d *daemonClient) *cobra.Command {
	var o fromHostOptions
	cmd := &cobra.Command{
		Use:   "from-host [NAME]",
		Short: "Make an image of software that is installed on this machine",
		Long: "Makes an image of an installed package and of the packages that it needs, and loads it into the daemon.\n" +
			"Only files that are exactly as the package manager lists them go in. Without a name, lists what there is.",
		Example: "  slipway image from-host\n  slipway image from-host postgresql\n" +
			"  slipway image from-host postgresql --tag registry.example/postgres:15 --output postgres.tar",
		Args: usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := fromhost.Open(fromhost.Config{})
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return listHost(s, host, o.format)
			}
			return fromHost(cmd.Context(), s, d, host, args[0], o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.tag, "tag", "t", "", "name of the image (default: the software's, with its version)")
	f.StringVarP(&o.output, "output", "o", "", "write the image's archive to a file (- is standard output) instead of loading it")
	f.BoolVar(&o.dryRun, "dry-run", false, "list the files that would go in")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "show no progress")
	formatFlag(cmd, &o.format)
	return cmd
}

func listHost(s streams, host *fromhost.Host, format formatValue) error {
	found, err := host.List()
	if err != nil {
		return err
	}
	if len(found) == 0 && format == formatTable {
		fmt.Fprintln(s.err, nothingFound)
	}
	if found == nil {
		found = []fromhost.Found{}
	}
	return s.show(format, found, func(t *table) {
		t.row("NAME", "VERSION", "PACKAGE", "IMAGE")
		for _, f := range found {
			t.row(f.Name, f.Version, f.Package, cmp.Or(f.Tag, "- ("+f.Note+")"))
		}
	})
}

func fromHost(ctx context.Context, s streams, d *daemonClient, host *fromhost.Host, name string, o fromHostOptions) error {
	im, err := host.Build(ctx, name, o.tag)
	if errdefs.IsInvalidArgument(err) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	if o.dryRun {
		return showFiles(s, im, o.format)
	}
	if len(im.Changed) > 0 {
		fmt.Fprintf(s.err, "left out, because they are not as the package manager lists them: %s\n", strings.Join(im.Changed, " "))
	}
	var progress fromhost.Progress
	if s.terminal() && !o.quiet {
		progress = func(done, total int64) {
			fmt.Fprintf(s.err, "\r%s: %3d%% of %s ", im.Tag(), done*100/max(total, 1), size(im.Size()))
			if done == total {
				fmt.Fprintln(s.err)
			}
		}
	}
	switch o.output {
	case "":
		return load(ctx, s, d, im, progress)
	case "-":
		return im.WriteTo(ctx, s.out, progress)
	default:
		return writeFile(o.output, func(w io.Writer) error { return im.WriteTo(ctx, w, progress) })
	}
}

// showFiles lists what would go in and what would not.
func showFiles(s streams, im *fromhost.Image, format formatValue) error {
	report := struct {
		Image    string          `json:"image"`
		Size     int64           `json:"size"`
		Packages []string        `json:"packages"`
		Files    []fromhost.File `json:"files"`
		Changed  []string        `json:"changed,omitempty"`
	}{im.Tag(), im.Size(), im.Packages, im.Files, im.Changed}
	return s.show(format, report, func(t *table) {
		t.row("MODE", "SIZE", "PACKAGE", "PATH")
		for _, f := range im.Files {
			name := f.Path
			if f.Target != "" {
				name += " -> " + f.Target
			}
			t.row(fmt.Sprintf("%06o", f.Mode), strconv.FormatInt(f.Size, 10), f.Package, name)
		}
		for _, c := range im.Changed {
			t.row("left out", "", "", c)
		}
		t.row("total", strconv.FormatInt(im.Size(), 10), fmt.Sprintf("%d packages", len(im.Packages)), fmt.Sprintf("%d entries", len(im.Files)))
	})
}

// writeFile writes a file that is there as a whole or not at all.
func writeFile(name string, write func(io.Writer) error) error {
	partial := name + ".partial"
	f, err := os.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644) //nolint:gosec // an image is for everybody
	if err != nil {
		return err
	}
	err = errors.Join(write(f), f.Close())
	if err == nil {
		err = os.Rename(partial, name)
	}
	if err != nil {
		if removeErr := os.Remove(partial); !errors.Is(removeErr, fs.ErrNotExist) {
			err = errors.Join(err, removeErr)
		}
	}
	return err
}

// load streams the image into the daemon.
func load(ctx context.Context, s streams, d *daemonClient, im *fromhost.Image, progress fromhost.Progress) error {
	return stream(ctx, d, func(w io.Writer) error { return im.WriteTo(ctx, w, progress) },
		func(cli *client.Client, r io.Reader) error { return loadStream(ctx, s, d, cli, r) })
}

func loadStream(ctx context.Context, s streams, d *daemonClient, cli *client.Client, r io.Reader) error {
	result, err := cli.ImageLoad(ctx, r, client.ImageLoadWithQuiet(true))
	if err != nil {
		return d.unreachable(ctx, err)
	}
	defer result.Close()
	return showMessages(result, func(m jsonstream.Message) { fmt.Fprint(s.out, m.Stream) })
}
