package volume

import (
	"fmt"
	"net/url"
	"regexp"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
)

const nameChars = `[a-zA-Z0-9][a-zA-Z0-9_.-]`

// maxName is what file systems take for one path component.
const maxName = 255

var validName = regexp.MustCompile(`^` + nameChars + `+$`)

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}

func validateName(name string) error {
	switch {
	case len(name) == 1:
		return invalid("volume name is too short, names should be at least two alphanumeric characters")
	case !validName.MatchString(name):
		return invalid("%q includes invalid characters for a local volume name, only %q are allowed. "+
			"If you intended to pass a host directory, use absolute path", name, nameChars)
	case len(name) > maxName:
		return invalid("volume name is too long, the maximum is %d characters", maxName)
	}
	return nil
}

// requiredWith are the options that another one needs beside it, in the order
// in which they are looked for.
var requiredWith = []struct {
	option   string
	required []string
}{
	{"device", []string{"type"}},
	{"type", []string{"device"}},
	{"o", []string{"device", "type"}},
}

// validateOptions checks the options of the local driver: type, o and device, as
// mount(8) takes them, and size.
func validateOptions(options map[string]string) error {
	if !hasMounts && len(options) > 0 {
		return invalid("options are not supported on this platform")
	}
	for option, value := range options {
		switch option {
		case "type", "o", "device":
		case "size":
			size, err := units.RAMInBytes(value)
			if err != nil {
				return invalid("%s", err)
			}
			if size > 0 {
				return invalid("quota size requested but no quota support")
			}
		default:
			return invalid("invalid option: %q", option)
		}
	}
	if device := options["device"]; options["type"] == "cifs" && device != "" {
		address, err := url.Parse(device)
		if err != nil {
			return invalid("error parsing mount device url: %s", err)
		}
		if address.Port() != "" {
			return invalid("port not allowed in CIFS device URL, include 'port' in 'o='")
		}
	}
	for _, rule := range requiredWith {
		if _, given := options[rule.option]; !given {
			continue
		}
		for _, other := range rule.required {
			if _, given := options[other]; !given {
				return invalid("missing required option: %q", other)
			}
		}
	}
	return nil
}

// isMount reports whether the options say what to mount as the volume.
func isMount(options map[string]string) bool {
	return options["device"] != "" || options["type"] != ""
}
