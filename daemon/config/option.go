package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// option is one setting: a flag, and the key of the configuration file that
// means the same.
type option struct {
	flag, short string
	key         string // "" for a setting that only the command line has
	arg         string // what the value is, for the usage text; "" for a switch
	usage       string
	hidden      bool // not in the usage text

	set  func(string) error          // takes one value from the command line
	load func(json.RawMessage) error // takes the whole value from the file
	get  func() string               // the value as it stands
}

// flagValue is an option as pflag wants it.
type flagValue struct{ *option }

func (f flagValue) String() string {
	if f.option == nil { // pflag makes a zero value to compare defaults with
		return ""
	}
	return f.get()
}
func (f flagValue) Set(s string) error { return f.set(s) }
func (f flagValue) Type() string       { return f.arg }

// text is a setting of one string. parse checks it and gives its normal form.
func text(p *string, o option, parse func(string) (string, error)) *option {
	return scalar(p, o, parse, func(s string) string { return s })
}

// scalar is a setting that is one string on the command line and in the file.
func scalar[T any](p *T, o option, parse func(string) (T, error), format func(T) string) *option {
	o.set = func(s string) error {
		v, err := parse(s)
		if err == nil {
			*p = v
		}
		return err
	}
	o.load = func(raw json.RawMessage) error {
		var s string
		if err := decode(raw, &s); err != nil {
			return err
		}
		return o.set(s)
	}
	o.get = func() string { return format(*p) }
	if o.arg == "" {
		o.arg = "string"
	}
	return &o
}

// toggle is a setting that is on or off.
func toggle(p *bool, o option) *option {
	o.set = func(s string) error {
		v, err := strconv.ParseBool(s)
		if err != nil {
			return errors.New("must be true or false")
		}
		*p = v
		return nil
	}
	o.load = func(raw json.RawMessage) error { return decode(raw, p) }
	o.get = func() string { return strconv.FormatBool(*p) }
	return &o
}

// number is a whole number from low to high.
func number(p *int, o option, low, high int) *option {
	check := func(v int) error {
		if v < low || v > high {
			return fmt.Errorf("must be from %d to %d", low, high)
		}
		*p = v
		return nil
	}
	o.set = func(s string) error {
		v, err := strconv.Atoi(s)
		if err != nil {
			return errors.New("must be a whole number")
		}
		return check(v)
	}
	o.load = func(raw json.RawMessage) error {
		var v int
		if err := decode(raw, &v); err != nil {
			return err
		}
		return check(v)
	}
	o.get = func() string { return strconv.Itoa(*p) }
	o.arg = "int"
	return &o
}

// list is a setting that may be given many times, an array in the file.
func list[T any](p *[]T, o option, parse func(string) (T, error)) *option {
	o.set = func(s string) error {
		v, err := parse(s)
		if err == nil {
			*p = append(*p, v)
		}
		return err
	}
	o.load = func(raw json.RawMessage) error {
		var values []string
		if err := decode(raw, &values); err != nil {
			return err
		}
		for _, s := range values {
			if err := o.set(s); err != nil {
				return fmt.Errorf("%q: %w", s, err)
			}
		}
		return nil
	}
	o.get = func() string { return bracket(*p) }
	if o.arg == "" {
		o.arg = "list"
	}
	return &o
}

// pairs is a setting of many key=value pairs, an object in the file.
func pairs(p *map[string]string, o option) *option {
	o.set = func(s string) error {
		k, v, ok := strings.Cut(s, "=")
		if !ok || k == "" {
			return errors.New("must be key=value")
		}
		if *p == nil {
			*p = map[string]string{}
		}
		(*p)[k] = v
		return nil
	}
	o.load = func(raw json.RawMessage) error { return decode(raw, p) }
	o.get = func() string {
		out := []string{}
		for _, k := range slices.Sorted(maps.Keys(*p)) {
			out = append(out, k+"="+(*p)[k])
		}
		return bracket(out)
	}
	o.arg = "map"
	return &o
}

// notYet is a setting of dockerd's that is refused: taken without an effect, it
// would let its user believe in one.
func notYet(o option) *option {
	errNotYet := errors.New("not supported yet")
	o.set = func(string) error { return errNotYet }
	o.load = func(json.RawMessage) error { return errNotYet }
	o.get = func() string { return "" }
	o.arg, o.hidden = "string", true
	return &o
}

func bracket[T any](values []T) string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = fmt.Sprint(v)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// decode is json.Unmarshal with errors in the user's words. A null is a wrong
// value too: it would silently leave the default.
func decode(raw json.RawMessage, into any) error {
	if string(raw) == "null" {
		return fmt.Errorf("must be %s, not null", kindOf(into))
	}
	err := json.Unmarshal(raw, into)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if wrong.Field != "" {
			return fmt.Errorf("%s: wrong value (%s)", wrong.Field, wrong.Value)
		}
		return fmt.Errorf("must be %s, not %s", kindOf(into), wrong.Value)
	}
	return err
}

func kindOf(p any) string {
	switch p.(type) {
	case *string:
		return "a string"
	case *bool:
		return "true or false"
	case *int:
		return "a whole number"
	case *[]string:
		return "an array of strings"
	case *map[string]string:
		return "an object of strings"
	default:
		return "an object or array as dockerd's daemon.json has it"
	}
}
