package job

import (
	"cmp"
	"slices"
)

// usage is what the guard sees of one process.
type usage struct {
	pid      uint32
	created  int64  // in any unit, the same for all
	private  uint64 // bytes that only this process can use, in memory or not
	resident uint64 // bytes in memory, among them what is shared
}

// memory returns how many bytes all of them use: what is each one's own, and of what
// is shared as much as the process has that has most of it. Shared memory that no process has
// in memory at the time is not seen.
func memory(all []usage) uint64 {
	var private, shared uint64
	for _, u := range all {
		private += u.private
		if u.resident > u.private {
			shared = max(shared, u.resident-u.private)
		}
	}
	return private + shared
}

// excess returns the processes that have to go so that no more than limit are left, the newest
// first; never the one with the id first, with which the container would end.
func excess(all []usage, limit uint32, first uint32) []uint32 {
	if limit == 0 || len(all) <= int(limit) {
		return nil
	}
	others := slices.DeleteFunc(slices.Clone(all), func(u usage) bool { return u.pid == first })
	slices.SortStableFunc(others, func(a, b usage) int { return cmp.Compare(b.created, a.created) })
	n := min(len(all)-int(limit), len(others))
	out := make([]uint32, n)
	for i := range out {
		out[i] = others[i].pid
	}
	return out
}
