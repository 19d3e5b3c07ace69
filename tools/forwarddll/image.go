package main

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
)

// The layout of the file, after "PE Format" in Microsoft's documentation (the
// sections "Overview", "COFF File Header", "Optional Header", "Section Table" and
// "The .edata Section"): one page of headers and one section, which holds the
// export table. A forwarder is an entry of the export address table whose address
// lies within the export table; what is there is a string, "DLL.FUNCTION".
const (
	fileAlignment    = 0x200
	sectionAlignment = 0x1000
	dosHeaderSize    = 0x40
	lfanew           = 0x3c // where the DOS header has the offset of the PE signature
	imageBase        = 0x180000000
	edataRVA         = sectionAlignment // the only section, after the headers
	directorySize    = 40               // of the export directory table
	magicPE32Plus    = 0x20b
	noSafeSEH        = 0x400 // IMAGE_DLLCHARACTERISTICS_NO_SEH
)

// build returns the file's content. forwards is by name of the export.
func build(dll string, forwards map[string]string) ([]byte, error) {
	edata := exportSection(dll, forwards)
	if len(edata) > sectionAlignment {
		return nil, errors.New("too many exports: they have to fit into one page")
	}
	section := pe.SectionHeader32{
		Name:             [8]uint8{'.', 'e', 'd', 'a', 't', 'a'},
		VirtualSize:      uint32(len(edata)), //nolint:gosec // at most a page
		VirtualAddress:   edataRVA,
		SizeOfRawData:    align(len(edata)),
		PointerToRawData: fileAlignment,
		Characteristics:  pe.IMAGE_SCN_CNT_INITIALIZED_DATA | pe.IMAGE_SCN_MEM_READ,
	}
	optional := optionalHeader(section)
	file := pe.FileHeader{
		Machine:              pe.IMAGE_FILE_MACHINE_AMD64,
		NumberOfSections:     1,
		SizeOfOptionalHeader: uint16(binary.Size(optional)), //nolint:gosec // a constant
		Characteristics:      pe.IMAGE_FILE_EXECUTABLE_IMAGE | pe.IMAGE_FILE_LARGE_ADDRESS_AWARE | pe.IMAGE_FILE_DLL,
	}

	dos := make([]byte, dosHeaderSize)
	copy(dos, "MZ")
	binary.LittleEndian.PutUint32(dos[lfanew:], dosHeaderSize)
	b := bytes.NewBuffer(dos)
	b.WriteString("PE\x00\x00")
	for _, header := range []any{file, optional, section} {
		if err := binary.Write(b, binary.LittleEndian, header); err != nil {
			return nil, err
		}
	}
	b.Write(make([]byte, fileAlignment-b.Len()))
	b.Write(edata)
	b.Write(make([]byte, int(section.SizeOfRawData)-len(edata)))
	return b.Bytes(), nil
}

func optionalHeader(edata pe.SectionHeader32) pe.OptionalHeader64 {
	h := pe.OptionalHeader64{
		Magic:                       magicPE32Plus,
		SizeOfInitializedData:       edata.SizeOfRawData,
		ImageBase:                   imageBase,
		SectionAlignment:            sectionAlignment,
		FileAlignment:               fileAlignment,
		MajorOperatingSystemVersion: 6, // Windows Vista: the least for 64 bits in practice
		MajorSubsystemVersion:       6,
		SizeOfImage:                 edataRVA + sectionAlignment,
		SizeOfHeaders:               fileAlignment,
		Subsystem:                   pe.IMAGE_SUBSYSTEM_WINDOWS_CUI,
		DllCharacteristics:          pe.IMAGE_DLLCHARACTERISTICS_NX_COMPAT | noSafeSEH,
		SizeOfStackReserve:          1 << 20,
		SizeOfStackCommit:           1 << 12,
		SizeOfHeapReserve:           1 << 20,
		SizeOfHeapCommit:            1 << 12,
	}
	h.NumberOfRvaAndSizes = uint32(len(h.DataDirectory))
	h.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_EXPORT] = pe.DataDirectory{VirtualAddress: edataRVA, Size: edata.VirtualSize}
	return h
}

// exportSection is the directory table, the address table, the table of pointers
// to names, the ordinals, and the strings that all of these point to. The loader
// searches the names by bisection, so they are sorted.
func exportSection(dll string, forwards map[string]string) []byte {
	names := slices.Sorted(maps.Keys(forwards))
	count := uint32(len(names)) //nolint:gosec // far below
	addresses := uint32(directorySize)
	pointers := addresses + 4*count
	ordinals := pointers + 4*count
	tables := make([]byte, ordinals+2*count)
	var strings []byte

	put := func(at, value uint32) { binary.LittleEndian.PutUint32(tables[at:], value) }
	addString := func(s string) (rva uint32) {
		rva = edataRVA + uint32(len(tables)+len(strings)) //nolint:gosec // at most a page
		strings = append(append(strings, s...), 0)
		return rva
	}
	put(12, addString(dll))
	put(16, 1) // the first ordinal
	put(20, count)
	put(24, count)
	put(28, edataRVA+addresses)
	put(32, edataRVA+pointers)
	put(36, edataRVA+ordinals)
	for i, name := range names {
		n := uint32(i)
		put(addresses+4*n, addString(forwards[name]))
		put(pointers+4*n, addString(name))
		binary.LittleEndian.PutUint16(tables[ordinals+2*n:], uint16(i))
	}
	return slices.Concat(tables, strings)
}

// align rounds a size up to whole blocks of the file.
func align(size int) uint32 {
	return uint32(size+fileAlignment-1) &^ (fileAlignment - 1) //nolint:gosec // at most a page
}
