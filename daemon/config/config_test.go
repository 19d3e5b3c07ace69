package config

import (
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/docker/go-units"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"
)

// parse reads args with a configuration file of the given content, or with
// none.
func parse(t *testing.T, file string, args ...string) (*Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "daemon.json")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	return Parse(append([]string{"--config-file", path}, args...), io.Discard)
}

// absolute is a rooted path as this system writes it in full: on Windows with
// the drive.
func absolute(path string) string {
	full, err := filepath.Abs(path)
	if err != nil {
		panic(err)
	}
	return full
}

var compare = cmp.Options{
	cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
}

// TestFlagAndFileAgree gives every setting once by flag and once by file, and
// wants the same effect of both.
func TestFlagAndFileAgree(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		args []string
		file string
		want func(*Config)
	}{
		{"data-root", []string{"--data-root=/d"}, `{"data-root":"/d"}`, func(c *Config) { c.Paths.DataRoot = absolute("/d") }},
		{"exec-root", []string{"--exec-root=/e"}, `{"exec-root":"/e"}`, func(c *Config) { c.Paths.ExecRoot = absolute("/e") }},
		{"pidfile", []string{"-p", "/p"}, `{"pidfile":"/p"}`, func(c *Config) { c.Paths.PidFile = absolute("/p") }},
		{"no pidfile", []string{"--pidfile="}, `{"pidfile":""}`, func(c *Config) { c.Paths.PidFile = "" }},
		{"hosts", []string{"-H", "unix:///a", "-H", "fd://"}, `{"hosts":["unix:///a","fd://"]}`, func(c *Config) {
			c.Listen.Hosts = []Address{{"unix", "/a"}, {"fd", ""}}
		}},
		{"group", []string{"-G", "staff"}, `{"group":"staff"}`, func(c *Config) { c.Listen.Group, c.Listen.GroupExplicit = "staff", true }},
		{
			"tlsverify",
			[]string{"--tlsverify", "--tlscacert=/1", "--tlscert=/2", "--tlskey=/3"},
			`{"tls":true,"tlsverify":true,"tlscacert":"/1","tlscert":"/2","tlskey":"/3"}`,
			func(c *Config) { c.Listen.TLS = &TLS{"/1", "/2", "/3"} },
		},
		{"plain tcp", []string{"-H", "tcp://127.0.0.1", "--allow-plain-tcp"}, `{"hosts":["tcp://127.0.0.1"],"allow-plain-tcp":true}`, func(c *Config) {
			c.Listen.Hosts, c.Listen.AllowPlainTCP = []Address{{"tcp", "127.0.0.1:2375"}}, true
		}},
		{"debug", []string{"-D"}, `{"debug":true}`, func(c *Config) { c.Log.Level = "debug" }},
		{"log-level", []string{"-l", "warn"}, `{"log-level":"warn"}`, func(c *Config) { c.Log.Level = "warn" }},
		{"log-format", []string{"--log-format=json"}, `{"log-format":"json"}`, func(c *Config) { c.Log.Format = "json" }},
		{"bip", []string{"--bip=10.1.0.1/16", "--fixed-cidr=10.1.2.0/24"}, `{"bip":"10.1.0.1/16","fixed-cidr":"10.1.2.0/24"}`, func(c *Config) {
			c.Network.BIP, c.Network.FixedCIDR = netip.MustParsePrefix("10.1.0.1/16"), netip.MustParsePrefix("10.1.2.0/24")
		}},
		{"bridge", []string{"-b", "br7"}, `{"bridge":"br7"}`, func(c *Config) { c.Network.Bridge = "br7" }},
		{"mtu", []string{"--mtu=1400"}, `{"mtu":1400}`, func(c *Config) { c.Network.MTU = 1400 }},
		{"icc", []string{"--icc=false"}, `{"icc":false}`, func(c *Config) { c.Network.ICC = false }},
		{"pools", []string{"--default-address-pool=base=10.2.0.0/16,size=24"}, `{"default-address-pools":[{"base":"10.2.0.0/16","size":24}]}`, func(c *Config) {
			c.Network.AddressPools = []AddressPool{{netip.MustParsePrefix("10.2.0.0/16"), 24}}
		}},
		{
			"dns",
			[]string{"--dns=10.0.0.53", "--dns=::1", "--dns-opt=ndots:2", "--dns-search=example.org"},
			`{"dns":["10.0.0.53","::1"],"dns-opts":["ndots:2"],"dns-search":["example.org"]}`, func(c *Config) {
				c.Network.DNS = []netip.Addr{netip.MustParseAddr("10.0.0.53"), netip.MustParseAddr("::1")}
				c.Network.DNSOptions, c.Network.DNSSearch = []string{"ndots:2"}, []string{"example.org"}
			},
		},
		{
			"logging",
			[]string{"--log-driver=none", "--log-opt", "max-size=1m", "--log-opt", "max-file=3"},
			`{"log-driver":"none","log-opts":{"max-size":"1m","max-file":"3"}}`,
			func(c *Config) { c.Logging = Logging{"none", map[string]string{"max-size": "1m", "max-file": "3"}} },
		},
		{"ulimits", []string{"--default-ulimit=nofile=10:20"}, `{"default-ulimits":{"nofile":{"Name":"nofile","Soft":10,"Hard":20}}}`, func(c *Config) {
			c.Defaults.Ulimits = map[string]*units.Ulimit{"nofile": {Name: "nofile", Soft: 10, Hard: 20}}
		}},
		{"shm", []string{"--default-shm-size=128m"}, `{"default-shm-size":"128M"}`, func(c *Config) { c.Defaults.ShmSize = 128 << 20 }},
		{"container-identity", []string{"--container-identity=own"}, `{"container-identity":"own"}`, func(c *Config) { c.Defaults.Identity = "own" }},
		{"cgroup-parent", []string{"--cgroup-parent=/x"}, `{"cgroup-parent":"/x"}`, func(c *Config) { c.Defaults.CgroupParent = "/x" }},
		{
			"registries",
			[]string{"--insecure-registry=reg:5000"},
			`{"insecure-registries":["reg:5000"]}`,
			func(c *Config) { c.Registries = Registries{[]string{"reg:5000"}} },
		},
		{"labels", []string{"--label=a=b", "--label=c="}, `{"labels":["a=b","c="]}`, func(c *Config) { c.Labels = []string{"a=b", "c="} }},
		{"live-restore", []string{"--live-restore"}, `{"live-restore":true}`, func(*Config) {}},
		{"shutdown-timeout", []string{"--shutdown-timeout=30"}, `{"shutdown-timeout":30}`, func(c *Config) { c.ShutdownTimeout = 30 * time.Second }},
		{
			"storage",
			[]string{"--storage-opt=pool.size=2g", "--storage-opt=pool.method=copy"},
			`{"storage-opts":["pool.size=2g","pool.method=copy"]}`,
			func(c *Config) { c.Pool = Pool{"copy", 2 << 30} },
		},
	}
	tried := map[string]bool{}
	for _, tt := range tests {
		for key := range strings.SplitSeq(tt.file, `"`) {
			tried[key] = true
		}
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			want, err := parse(t, "")
			if err != nil {
				t.Fatal(err)
			}
			tt.want(want)
			byFlag, err := parse(t, "", tt.args...)
			if err != nil {
				t.Fatalf("by flag: %v", err)
			}
			byFile, err := parse(t, tt.file)
			if err != nil {
				t.Fatalf("by file: %v", err)
			}
			want.Paths.ConfigFile, byFlag.Paths.ConfigFile, byFile.Paths.ConfigFile = "", "", ""
			if diff := cmp.Diff(want, byFlag, compare); diff != "" {
				t.Errorf("by flag (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want, byFile, compare); diff != "" {
				t.Errorf("by file (-want +got):\n%s", diff)
			}
			// dockerd's rule: the same setting in both places is an error.
			if _, err := parse(t, tt.file, tt.args...); err == nil || !strings.Contains(err.Error(), "both as a flag and in the configuration file") {
				t.Errorf("given twice: %v", err)
			}
		})
	}
	for _, o := range newSettings().options() {
		if o.key != "" && !o.hidden && !tried[o.key] {
			t.Errorf("no case sets %q", o.key)
		}
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c, err := parse(t, "")
	if err != nil {
		t.Fatal(err)
	}
	c.Paths.ConfigFile = ""
	paths := Paths{DataRoot: "/var/lib/slipway", ExecRoot: "/run/slipway", PidFile: "/run/slipway/slipwayd.pid"}
	host := Address{"unix", "/run/slipway/slipway.sock"}
	if runtime.GOOS == "windows" {
		paths = Paths{DataRoot: `C:\ProgramData\slipway\data`, ExecRoot: `C:\ProgramData\slipway\run`}
		host = Address{"npipe", "//./pipe/slipway_engine"}
	}
	want := &Config{
		Paths:           paths,
		Listen:          Listen{Hosts: []Address{host}, Group: "slipway"},
		Log:             Log{Level: "info", Format: "text"},
		Network:         Network{Bridge: "slipway0", ICC: true},
		Logging:         Logging{Driver: "json-file"},
		Defaults:        Defaults{ShmSize: defaultShmSize},
		ShutdownTimeout: 15 * time.Second,
	}
	if diff := cmp.Diff(want, c, compare); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestErrorsAreOneLineThatNamesTheCulprit(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, file string
		args       []string
		want       string
	}{
		{"unknown flag", "", []string{"--colour"}, "unknown flag: --colour"},
		{"argument", "", []string{"start"}, `unexpected argument "start"`},
		{"flag value", "", []string{"--mtu=big"}, `"--mtu"`},
		{"flag range", "", []string{"--mtu=70000"}, "from 0 to 65535"},
		{"unknown keys", `{"zeta":1,"alpha":2}`, nil, "don't match any configuration option: alpha, zeta"},
		{"odd key", `{"a\nb":1}`, nil, `a\nb`},
		{"conflict", `{"mtu":1300}`, []string{"--mtu=1400"}, "mtu: (from flag: 1400, from file: 1300)"},
		{"conflict of lists", `{"hosts":["fd://"]}`, []string{"-H", "unix:///x"}, `hosts: (from flag: [unix:///x], from file: ["fd://"])`},
		{"bool as string", `{"debug":"yes"}`, nil, `"debug": must be true or false, not string`},
		{"number as string", `{"mtu":"1400"}`, nil, `"mtu": must be a whole number, not string`},
		{"fraction", `{"mtu":1.5}`, nil, `"mtu": must be a whole number`},
		{"string as list", `{"hosts":"fd://"}`, nil, `"hosts": must be an array of strings, not string`},
		{"null", `{"mtu":null}`, nil, `"mtu": must be a whole number, not null`},
		{"number in map", `{"log-opts":{"max-file":3}}`, nil, `"log-opts"`},
		{"pool field", `{"default-address-pools":[{"base":"10.0.0.0/8","bits":16}]}`, nil, `unknown field "bits"`},
		{"pool half", `{"default-address-pools":[{"base":"10.0.0.0/8"}]}`, nil, `needs "base" and "size"`},
		{"pool size", "", []string{"--default-address-pool=base=10.0.0.0/24,size=16"}, "from 24"},
		{"ulimit half", `{"default-ulimits":{"nofile":{"Soft":1}}}`, nil, `"nofile" needs "Soft" and "Hard"`},
		{"ulimit order", `{"default-ulimits":{"nofile":{"Soft":3,"Hard":2}}}`, nil, "ulimit"},
		{"ulimit name", `{"default-ulimits":{"rubbish":{"Soft":1,"Hard":2}}}`, nil, "rubbish"},
		{"not JSON", `{"debug": tru}`, nil, "not valid JSON at byte"},
		{"cut off", `{"debug": true`, nil, "ends too early"},
		{"not an object", `[]`, nil, "not a JSON object"},
		{"more", `{} {}`, nil, "more after the end"},
		{"twice", `{"debug":true,"debug":false}`, nil, `"debug" stands there twice`},
		{"live-restore", `{"live-restore":false}`, nil, "live-restore"},
		{"tls alone", "", []string{"--tls"}, "tlsverify"},
		{"open tcp", "", []string{"-H", "tcp://0.0.0.0:2375", "--allow-plain-tcp"}, "needs mutual TLS"},
		{"plain tcp", "", []string{"-H", "127.0.0.1:2375"}, "allow-plain-tcp"},
		{"host name", "", []string{"-H", "tcp://localhost.example.org:2375", "--allow-plain-tcp"}, "needs mutual TLS"},
		{"scheme", "", []string{"-H", "http://x"}, "must begin with"},
		{"port", "", []string{"-H", "tcp://127.0.0.1:99999"}, "port"},
		{"relative socket", "", []string{"-H", "unix://x"}, "absolute"},
		{"long socket", "", []string{"-H", "unix:///" + strings.Repeat("x", 120)}, "107"},
		{"same host twice", "", []string{"-H", "fd://", "-H", "fd://"}, "given twice"},
		{"nested roots", "", []string{"--data-root=/d", "--exec-root=/d/run"}, "must not contain each other"},
		{"bip is a network", "", []string{"--bip=10.0.0.0/24"}, "10.0.0.1/24"},
		{"bip too small", "", []string{"--bip=10.0.0.1/31"}, "no address"},
		{"fixed-cidr outside", "", []string{"--bip=10.0.0.1/24", "--fixed-cidr=10.0.1.0/25"}, "not inside"},
		{"fixed-cidr alone", "", []string{"--fixed-cidr=10.0.1.0/25"}, "needs bip"},
		{"bridge", "", []string{"--bridge=a-name-that-is-too-long"}, "15 characters"},
		{"no bridge", "", []string{"--bridge=none"}, "not supported"},
		{"storage", "", []string{"--storage-opt=dm.size=3"}, `"dm.size"`},
		{"storage size", "", []string{"--storage-opt=pool.size=-3"}, "pool.size must be a size"},
		{"mirror", "", []string{"--registry-mirror=https://m.example"}, `"--registry-mirror" flag: not supported yet`},
		{"mirrors", `{"registry-mirrors":["https://m.example"]}`, nil, `"registry-mirrors": not supported yet`},
		{"registry", "", []string{"--insecure-registry=http://reg"}, "without scheme"},
		{"log level", "", []string{"--log-level=loud"}, "must be one of debug"},
		{"label", "", []string{"--label=x"}, "key=value"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := parse(t, tt.file, tt.args...)
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), tt.want) || strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("got %q, want one line with %q", err, tt.want)
			}
		})
	}
}

func TestMissingFile(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "none.json")
	if _, err := Parse([]string{"--config-file", missing}, io.Discard); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("a file that was named and is missing: %v", err)
	}
	s := newSettings()
	if found, err := loadFile(missing, false, s.options(), func(string) bool { return false }); found || err != nil {
		t.Errorf("the default file is missing: found %v, error %v", found, err)
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]Mode{"--version": ModeVersion, "-v": ModeVersion, "--help": ModeHelp, "-h": ModeHelp, "--validate": ModeValidate} {
		c, err := parse(t, "", args)
		if err != nil || c.Mode != want {
			t.Errorf("%s: mode %v, error %v", args, c, err)
		}
	}
	if _, err := parse(t, `{"debug":3}`, "--validate"); err == nil {
		t.Error("--validate finds nothing wrong")
	}
}

func TestPlainTCPWarns(t *testing.T) {
	t.Parallel()
	var warnings strings.Builder
	_, err := Parse([]string{"-H", "tcp://[::1]:2375", "--allow-plain-tcp", "--config-file", os.DevNull}, &warnings)
	if err != nil || !strings.Contains(warnings.String(), "tcp://[::1]:2375") {
		t.Errorf("warnings %q, error %v", warnings.String(), err)
	}
}

func TestUsageNamesEveryFlag(t *testing.T) {
	t.Parallel()
	usage := Usage()
	flagSet(newSettings().options()).VisitAll(func(f *pflag.Flag) {
		if strings.Contains(usage, "--"+f.Name) == f.Hidden {
			t.Errorf("--%s: hidden %v", f.Name, f.Hidden)
		}
	})
}

func FuzzFile(f *testing.F) {
	for _, seed := range []string{
		`{}`, ``, `{"debug":true}`, `{"hosts":["unix:///x","tcp://[::1]:1"]}`, `{"bip":"10.0.0.1/24","fixed-cidr":"10.0.0.0/25"}`,
		`{"default-address-pools":[{"base":"10.0.0.0/8","size":16}]}`, `{"default-ulimits":{"nofile":{"Soft":1,"Hard":2}}}`,
		`{"log-opts":{"a":"b"},"storage-opts":["pool.size=1g"]}`, `{"mtu":1e3}`, "\ufeff{}", `{"a":{"b":[1,2,{}]}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := newSettings()
		options := s.options()
		if err := load(data, options, func(string) bool { return false }); err != nil {
			return
		}
		if err := s.finish(); err != nil {
			return
		}
		// What was accepted keeps the promises that the daemon relies on.
		n := s.cfg.Network
		if n.BIP.IsValid() && !n.BIP.Addr().Is4() || n.FixedCIDR.IsValid() && !n.BIP.Masked().Overlaps(n.FixedCIDR) {
			t.Errorf("bridge addresses %v, %v", n.BIP, n.FixedCIDR)
		}
		for _, h := range s.cfg.Listen.Hosts {
			if h.Scheme == "tcp" && s.cfg.Listen.TLS == nil && !isLoopback(h.Addr) {
				t.Errorf("open to the network: %v", h)
			}
			if again, err := parseHost(h.String(), s.verify); err != nil || again != h {
				t.Errorf("%v does not read back: %v, %v", h, again, err)
			}
		}
	})
}
