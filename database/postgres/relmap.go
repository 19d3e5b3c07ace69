package postgres

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"path"
	"strconv"

	"slipway/database"
)

const (
	relmapMagic       = 0x592717
	relmapLimit       = 4096
	oidOfSubscription = 6100 // pg_subscription, the same in every version that has it
)

// mayHaveSubscriptions tells whether there can be logical replication subscriptions in a data directory that no
// server runs on. Their catalog is one of those whose file numbers stand in global/pg_filenode.map (a magic number,
// a count, pairs of catalog and file number); if its file has never held a page there are none. It says true
// whenever that is not certain.
func mayHaveSubscriptions(f database.Files, dataDir string) (bool, error) {
	// A base backup or a standby may have the catalog's pages only in its log.
	for _, name := range []string{"backup_label", "standby.signal", "recovery.signal", "recovery.conf"} {
		if _, err := f.Size(path.Join(dataDir, name)); err == nil {
			return true, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return true, err
		}
	}
	data, err := f.Read(path.Join(dataDir, "global", "pg_filenode.map"), relmapLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return true, err
	}
	file, ok := relmapFile(data, oidOfSubscription)
	if !ok {
		return true, nil
	}
	size, err := f.Size(path.Join(dataDir, "global", strconv.FormatUint(uint64(file), 10)))
	if err != nil {
		return true, nil //nolint:nilerr // a file that is not where the map says is the uncertain case
	}
	return size > 0, nil
}

// relmapFile finds a catalog's file number in a map, in either byte order.
func relmapFile(data []byte, oid uint32) (uint32, bool) {
	if len(data) < 8 {
		return 0, false
	}
	var order binary.ByteOrder = binary.LittleEndian
	if order.Uint32(data) != relmapMagic {
		order = binary.BigEndian
	}
	if order.Uint32(data) != relmapMagic {
		return 0, false
	}
	n := int64(order.Uint32(data[4:]))
	for pairs := data[8:]; n > 0 && len(pairs) >= 8; n, pairs = n-1, pairs[8:] {
		if order.Uint32(pairs) == oid {
			return order.Uint32(pairs[4:]), true
		}
	}
	return 0, false
}
