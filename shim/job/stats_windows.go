package job

import (
	"fmt"
	"time"

	"golang.org/x/sys/windows"
)

// Stats are a container's use of the host at one moment, all its processes together, and
// where it counts up, also those that have ended.
type Stats struct {
	At                   time.Time
	UserTime, KernelTime time.Duration
	// Processes is the number of processes at the moment.
	Processes uint32
	// Memory is what they use now as the guard counts it, Private without what they share, Peak
	// the most that was ever committed; all in bytes.
	Memory, Private, Peak uint64
	// Operations and bytes of input and output, files and network together.
	ReadOperations, WriteOperations, ReadBytes, WriteBytes uint64
}

// Stats returns what the container uses.
func (c *Container) Stats() (Stats, error) {
	info, err := c.inner.accounting()
	if err != nil {
		return Stats{}, err
	}
	var extended windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	if err := jobInformation(c.inner.handle, windows.JobObjectExtendedLimitInformation, &extended); err != nil {
		return Stats{}, fmt.Errorf("reading the job's peak of memory: %w", err)
	}
	pids, err := c.inner.pids()
	if err != nil {
		return Stats{}, err
	}
	all := look(pids)
	s := Stats{
		At:       time.Now(),
		UserTime: time.Duration(info.basic.userTime) * 100, KernelTime: time.Duration(info.basic.kernelTime) * 100,
		Processes: info.basic.active, Memory: memory(all), Peak: uint64(extended.PeakJobMemoryUsed),
		ReadOperations: info.io.readOperations, WriteOperations: info.io.writeOperations,
		ReadBytes: info.io.readBytes, WriteBytes: info.io.writeBytes,
	}
	for _, u := range all {
		s.Private += u.private
	}
	return s, nil
}
