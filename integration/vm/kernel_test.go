//go:build linux

package vm

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// modules of Debian's kernel that the machine needs. Nothing is loaded on demand
// in it, so all are named but those that one of these asks for itself.
var modules = []string{
	"virtio_pci", "virtio_blk", "virtio_console",
	"xfs", "loop", "overlay",
	"veth", "bridge", "br_netfilter", "dummy",
	"nf_tables", "nft_chain_nat", "nft_nat", "nft_masq", "nft_redir", "nft_ct", "nft_limit", "nft_log", "nft_objref", "nft_hash", "nft_numgen",
	"nft_reject_inet", "nft_fib_inet", "nft_compat", "nf_conntrack_netlink", "nfnetlink_log",
	"xt_MASQUERADE", "xt_conntrack", "xt_addrtype", "xt_comment", "xt_mark", "xt_tcpudp", "xt_nat",
	"unix_diag", "inet_diag", "tcp_diag", "udp_diag",
}

// kernel is what is in Debian's package of it.
type kernel struct {
	image   string            // file
	modules map[string]string // file by name
}

func findKernel(root string) (kernel, error) {
	k := kernel{modules: map[string]string{}}
	images, err := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return k, fmt.Errorf("want one kernel in %s: %q %w", root, images, err)
	}
	k.image = images[0]
	return k, filepath.WalkDir(filepath.Join(root, "lib", "modules"), func(path string, _ os.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok {
			k.modules[moduleName(name)] = path
		}
		return err
	})
}

// moduleName: the two spellings mean the same.
func moduleName(name string) string { return strings.ReplaceAll(name, "-", "_") }

// closure are the modules with those that they need, each after what it needs.
func (k kernel) closure(names []string) ([]string, error) {
	var order []string
	seen := map[string]bool{}
	var visit func(name string) error
	visit = func(name string) error {
		name = moduleName(name)
		if seen[name] {
			return nil
		}
		seen[name] = true
		file, ok := k.modules[name]
		if !ok {
			return fmt.Errorf("the kernel has no module %s", name)
		}
		needs, err := dependencies(file)
		if err != nil {
			return fmt.Errorf("module %s: %w", name, err)
		}
		for _, n := range needs {
			if err := visit(n); err != nil {
				return err
			}
		}
		order = append(order, name)
		return nil
	}
	for _, n := range names {
		if err := visit(n); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// dependencies are what a module says of itself, as `modinfo` shows it.
func dependencies(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return nil, errors.New("no .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for field := range bytes.SplitSeq(info, []byte{0}) {
		if list, ok := bytes.CutPrefix(field, []byte("depends=")); ok {
			return strings.FieldsFunc(string(list), func(r rune) bool { return r == ',' }), nil
		}
	}
	return nil, nil
}

// writeInitramfs writes what the kernel unpacks and starts: the guest's program
// and the modules.
func writeInitramfs(w io.Writer, k kernel, guest string) error {
	order, err := k.closure(modules)
	if err != nil {
		return err
	}
	a := archive{w: w}
	a.add("dev", 0o40755, nil)
	a.add("dev/console", 0o20600, nil)
	a.add("proc", 0o40755, nil)
	a.add("system", 0o40755, nil)
	a.add("modules", 0o40755, nil)
	a.add("modules/order", 0o100644, []byte(strings.Join(order, "\n")))
	for _, name := range order {
		a.addFile("modules/"+name, 0o100644, k.modules[name])
	}
	a.addFile("init", 0o100755, guest)
	a.add("TRAILER!!!", 0, nil)
	return a.err
}

// archive is a cpio archive in the format that the kernel takes ("newc").
type archive struct {
	w     io.Writer
	inode int
	err   error // the first one
}

func (a *archive) addFile(name string, mode int, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		a.err = errors.Join(a.err, err)
		return
	}
	a.add(name, mode, data)
}

func (a *archive) add(name string, mode int, data []byte) {
	if a.err != nil {
		return
	}
	a.inode++
	major, minor := 0, 0
	if name == "dev/console" {
		major, minor = 5, 1
	}
	var b bytes.Buffer
	b.WriteString("070701")
	// Inode, mode, owner, group, links, time, size, device, this device, name's
	// length with the zero, checksum.
	for _, v := range []int{a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name) + 1, 0} {
		fmt.Fprintf(&b, "%08x", v)
	}
	b.WriteString(name)
	b.WriteByte(0)
	pad(&b)
	b.Write(data)
	pad(&b)
	_, a.err = a.w.Write(b.Bytes())
}

func pad(b *bytes.Buffer) {
	for b.Len()%4 != 0 {
		b.WriteByte(0)
	}
}
