package service

import (
	"flag"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
)

// Invocation is how containerd has called the shim's program.
type Invocation struct {
	// Action is start, delete or serve, or empty for the flags -info and -v.
	Action    string
	Namespace string
	ID        string
	// Bundle is the directory of the task. containerd gives it for delete; for start it
	// is the working directory.
	Bundle string
	// Socket is the pipe to serve.
	Socket string
	// Address is containerd's. The shim does not use it, but has it among its arguments, so that it can be told
	// which daemon's it is.
	Address string
	// TTRPCAddress is where events go.
	TTRPCAddress string
	Debug        bool
	Info         bool
	Version      bool
}

// Parse reads the arguments that containerd gives a shim. usage gets what is wrong with them.
func Parse(args []string, getenv func(string) string, usage io.Writer) (Invocation, error) {
	var in Invocation
	var ignored string
	flags := flag.NewFlagSet("containerd-shim-slipway-job-v1", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.BoolVar(&in.Debug, "debug", false, "log more")
	flags.BoolVar(&in.Version, "v", false, "say the version")
	flags.BoolVar(&in.Version, "version", false, "say the version")
	flags.BoolVar(&in.Info, "info", false, "write the runtime's information to standard output")
	flags.StringVar(&in.Namespace, "namespace", "", "containerd's namespace")
	flags.StringVar(&in.ID, "id", "", "the task's id")
	flags.StringVar(&in.Bundle, "bundle", "", "the task's directory, if it is not the working directory")
	flags.StringVar(&in.Socket, "socket", "", "the pipe to serve")
	flags.StringVar(&in.Address, "address", "", "containerd's address")
	flags.StringVar(&ignored, "publish-binary", "", "containerd's program, not used: events go to $TTRPC_ADDRESS")
	if err := flags.Parse(args); err != nil {
		return in, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	in.Action = flags.Arg(0)
	in.TTRPCAddress = getenv("TTRPC_ADDRESS")
	if in.Info || in.Version {
		return in, nil
	}
	switch {
	case flags.NArg() != 1:
		return in, fmt.Errorf("one action is needed, start or delete; containerd runs this program: %w", errdefs.ErrInvalidArgument)
	case in.Namespace == "" || in.ID == "":
		return in, fmt.Errorf("-namespace and -id are needed: %w", errdefs.ErrInvalidArgument)
	}
	return in, nil
}
