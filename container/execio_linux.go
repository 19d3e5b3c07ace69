package container

import "github.com/containerd/containerd/v2/pkg/cio"

func (p *execProcess) creator(dir string) cio.Creator {
	opts := []cio.Opt{cio.WithFIFODir(dir)}
	if p.tty {
		opts = append(opts, cio.WithStreams(p.streams.Stdin, p.streams.Stdout, nil), cio.WithTerminal)
	} else {
		opts = append(opts, cio.WithStreams(p.streams.Stdin, p.streams.Stdout, p.streams.Stderr))
	}
	return cio.NewCreator(opts...)
}
