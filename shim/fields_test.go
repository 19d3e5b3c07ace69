package shim

import (
	"reflect"
	"strings"
	"testing"

	mobycontainer "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// treatment is what happens to one field of the API. Exactly one of the strings
// is set.
type treatment struct {
	spec    bool   // it changes the specification
	checked bool   // Validate checks the value; other packages use it
	warned  bool   // dropped with a warning
	refused string // refused by an error that has this text

	elsewhere string // the package that honours or refuses it
	nothing   string // why it has no effect, with Docker too

	set func(*mobycontainer.Config, *mobycontainer.HostConfig)
}

type (
	ctrConfig  = mobycontainer.Config
	hostConfig = mobycontainer.HostConfig
)

func changesSpec(set func(c *ctrConfig, h *hostConfig)) treatment {
	return treatment{spec: true, set: set}
}

func isRefused(text string, set func(c *ctrConfig, h *hostConfig)) treatment {
	return treatment{refused: text, set: set}
}

func isChecked(text string, set func(c *ctrConfig, h *hostConfig)) treatment {
	return treatment{checked: true, refused: text, set: set}
}

// system is the package's functions on the system of the test.
type system struct {
	validate func(*ctrConfig, *hostConfig) (warnings []string, err error)
	spec     func(SpecRequest) (*specs.Spec, error)
	request  func() SpecRequest // of which nothing is refused
}

// testFields fails when the API's module brings a field that nobody has decided about, and when a
// field does not get what the tables of this system say.
func testFields(t *testing.T, s system, config, host, resources map[string]treatment) {
	t.Helper()
	for _, table := range []struct {
		of     reflect.Type
		fields map[string]treatment
	}{
		{reflect.TypeFor[mobycontainer.Config](), config},
		{reflect.TypeFor[mobycontainer.HostConfig](), host},
		{reflect.TypeFor[mobycontainer.Resources](), resources},
	} {
		seen := map[string]bool{}
		for field := range table.of.Fields() {
			seen[field.Name] = true
			treated, ok := table.fields[field.Name]
			if !ok {
				t.Errorf("%s.%s is new: honour or refuse it, and say so in the table", table.of, field.Name)
				continue
			}
			t.Run(table.of.Name()+"."+field.Name, func(t *testing.T) { testTreatment(t, s, treated) })
		}
		for name := range table.fields {
			if !seen[name] {
				t.Errorf("%s.%s is no longer there", table.of, name)
			}
		}
	}
}

func testTreatment(t *testing.T, s system, treated treatment) {
	t.Helper()
	if treated.set == nil {
		if (treated.elsewhere == "") == (treated.nothing == "") {
			t.Error("the table must say what becomes of the field")
		}
		return
	}
	req := s.request()
	treated.set(req.Config, req.HostConfig)
	warnings, err := s.validate(req.Config, req.HostConfig)
	switch {
	case treated.refused != "":
		if err == nil || !strings.Contains(err.Error(), treated.refused) {
			t.Errorf("error %v does not name %q", err, treated.refused)
		}
	case err != nil:
		t.Errorf("refused: %v", err)
	case treated.warned:
		if len(warnings) != 1 {
			t.Errorf("warnings %q, want one", warnings)
		}
	default:
		if reflect.DeepEqual(*s.made(t, req), *s.made(t, s.request())) {
			t.Error("the specification is as without it")
		}
	}
}

// made is the specification of a valid request.
func (s system) made(t *testing.T, req SpecRequest) *specs.Spec {
	t.Helper()
	if _, err := s.validate(req.Config, req.HostConfig); err != nil {
		t.Fatal(err)
	}
	spec, err := s.spec(req)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}
