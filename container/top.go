package container

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	mobycontainer "github.com/moby/moby/api/types/container"
	mobyevents "github.com/moby/moby/api/types/events"
)

// defaultPS are the arguments of ps where a request has none.
const defaultPS = "-ef"

// Top lists the container's processes as the host's ps shows them.
func (m *Manager) Top(ctx context.Context, ref, psArgs string) (mobycontainer.TopResponse, error) {
	if psArgs == "" {
		psArgs = defaultPS
	}
	if err := checkPSArgs(psArgs); err != nil {
		return mobycontainer.TopResponse{}, err
	}
	c, err := m.find(ref)
	if err != nil {
		return mobycontainer.TopResponse{}, err
	}
	pids, err := m.pids(ctx, c)
	if err != nil {
		return mobycontainer.TopResponse{}, err
	}
	out, err := processList(ctx, strings.Split(psArgs, " "), pids)
	if err != nil {
		return mobycontainer.TopResponse{}, err
	}
	list, err := parsePS(out, pids)
	if err != nil {
		return mobycontainer.TopResponse{}, err
	}
	m.publish(c, mobyevents.ActionTop, nil)
	return list, nil
}

// pids are the processes of a running container, those of execs among them.
func (m *Manager) pids(ctx context.Context, c *container) ([]int, error) {
	run := c.run.Load()
	switch {
	case c.status() == mobycontainer.StateRestarting:
		return nil, errdefs.ErrConflict.WithMessage(fmt.Sprintf("Container %s is restarting, wait until the container is running", c.id))
	case run == nil:
		return nil, notRunning(c)
	}
	infos, err := run.task.Pids(ctx)
	if err != nil {
		if run.ending(ctx) {
			return nil, notRunning(c)
		}
		return nil, err
	}
	pids := make([]int, len(infos))
	for i, info := range infos {
		pids[i] = int(info.Pid)
	}
	return pids, nil
}

// otherPID finds columns that are given a title which begins like the one of the
// processes' numbers.
var otherPID = regexp.MustCompile(`(\S*)=\s*(PID\S*)`)

// checkPSArgs refuses to give another column the title by which the processes
// are found.
func checkPSArgs(args string) error {
	for _, match := range otherPID.FindAllStringSubmatch(args, -1) {
		if match[1] != "pid" {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("specifying \"%s=%s\" is not allowed", match[1], match[2]))
		}
	}
	return nil
}

// isBlank is true for the blanks of ASCII, which alone separate the columns of ps.
func isBlank(r rune) bool { return strings.ContainsRune(" \t\n\v\f\r", r) }

// parsePS takes the lines of these processes from the output of ps. What exceeds
// the titles belongs to the last column. Lines of threads, which have no number of
// a process, follow the one of their process.
func parsePS(out string, pids []int) (mobycontainer.TopResponse, error) {
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	list := mobycontainer.TopResponse{Titles: strings.FieldsFunc(lines[0], isBlank), Processes: [][]string{}}
	column := slices.Index(list.Titles, "PID")
	if column < 0 {
		return list, errdefs.ErrInvalidArgument.WithMessage("Couldn't find PID field in ps output")
	}
	ours := false
	for _, line := range lines[1:] {
		fields := strings.FieldsFunc(line, isBlank)
		if len(fields) <= column {
			continue
		}
		if fields[column] != "-" {
			pid, err := strconv.Atoi(fields[column])
			if err != nil {
				return list, errdefs.ErrInternal.WithMessage(fmt.Sprintf("Unexpected pid '%s': %s", fields[column], err))
			}
			ours = slices.Contains(pids, pid)
		}
		if !ours {
			continue
		}
		last := min(len(list.Titles), len(fields)) - 1
		list.Processes = append(list.Processes, append(fields[:last:last], strings.Join(fields[last:], " ")))
	}
	return list, nil
}
