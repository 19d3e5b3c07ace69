package main

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What was written is read back by another reader of the format, up to the
// strings, the way a loader does.
func TestExportsAreForwarders(t *testing.T) {
	file := filepath.Join(t.TempDir(), "some.dll")
	if err := run(file, []string{"Zeta=b.Two", "Alpha=advapi32.SystemFunction036"}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	name, got := readForwards(t, data)
	if name != "some.dll" {
		t.Errorf("the DLL calls itself %q", name)
	}
	want := map[string]string{"Alpha": "advapi32.SystemFunction036", "Zeta": "b.Two"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func readForwards(t *testing.T, data []byte) (dll string, forwards map[string]string) {
	t.Helper()
	f, err := pe.NewFile(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if f.Characteristics&pe.IMAGE_FILE_DLL == 0 || f.Machine != pe.IMAGE_FILE_MACHINE_AMD64 {
		t.Errorf("header %+v", f.FileHeader)
	}
	directory := f.OptionalHeader.(*pe.OptionalHeader64).DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_EXPORT]
	section := f.Section(".edata")
	edata, err := section.Data()
	if err != nil {
		t.Fatal(err)
	}
	at := func(rva uint32) []byte { return edata[rva-section.VirtualAddress:] }
	u32 := func(rva uint32) uint32 { return binary.LittleEndian.Uint32(at(rva)) }
	text := func(rva uint32) string {
		s, _, _ := bytes.Cut(at(rva), []byte{0})
		return string(s)
	}
	table := directory.VirtualAddress
	addresses, pointers, ordinals := u32(table+28), u32(table+32), u32(table+36)
	forwards = map[string]string{}
	var order []string
	for i := range u32(table + 24) {
		name := text(u32(pointers + 4*i))
		order = append(order, name)
		address := u32(addresses + 4*uint32(binary.LittleEndian.Uint16(at(ordinals+2*i))))
		if address < table || address >= table+directory.Size {
			t.Errorf("%s is at %#x, outside the export table: not a forwarder", name, address)
		}
		forwards[name] = text(address)
	}
	if !slices.IsSorted(order) {
		t.Errorf("the names are not sorted: %v", order)
	}
	return text(u32(table + 12)), forwards
}

func TestWrongArguments(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.dll")
	many := map[string]string{}
	for i := range 200 {
		many[string(rune('A'+i%26))+string(rune('a'+i/26))] = "kernel32.Something"
	}
	for _, args := range [][]string{{"A"}, {"A=b"}, {"=b.c"}, {"A=.c"}, {"A=b."}, {"A=b.c", "A=d.e"}} {
		if err := run(file, args); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
	if _, err := build("x.dll", many); err == nil {
		t.Errorf("%d exports are accepted", len(slices.Collect(maps.Keys(many))))
	}
}
