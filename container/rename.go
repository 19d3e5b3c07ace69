package container

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"regexp"
	"strings"

	"slipway/internal/failpoint"
	"slipway/state"

	"github.com/containerd/errdefs"
	mobyevents "github.com/moby/moby/api/types/events"
)

// nameRules is what Docker allows as a container's name.
var nameRules = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// Rename gives the container another name.
func (m *Manager) Rename(ctx context.Context, ref, name string) error {
	c, err := m.find(ref)
	if err != nil {
		return err
	}
	if name == "" {
		return errdefs.ErrInvalidArgument.WithMessage("Neither old nor new names may be empty")
	}
	if name, err = checkName(name); err != nil {
		return err
	}
	unlock, err := m.transition(ctx, c, "rename")
	if err != nil {
		return err
	}
	defer unlock()
	old := c.record.Load().Name
	if old == name {
		return errdefs.ErrInvalidArgument.WithMessage("Renaming a container with the same name as its current name")
	}
	failpoint.Hit("container.rename.begin")
	if err := m.names.Rename(old, name, c.id); err != nil {
		return conflict(err)
	}
	failpoint.Hit("container.rename.named") // the next daemon does the rest
	if err := c.update(func(r *Record) { r.Name = name }); err != nil {
		return errors.Join(err, m.names.Rename(name, old, c.id))
	}
	failpoint.Hit("container.rename.done")
	// It has its new name from here on, whatever becomes of this; the next daemon
	// does it too.
	m.logged(ctx, c, "others on its networks do not know a container's new name", m.cfg.Networks.Rename(ctx, c.id, name))
	m.publish(c, mobyevents.ActionRename, map[string]string{"oldName": "/" + old})
	return nil
}

// settleNames finishes renames that a crash cut: where the register and the
// record differ, the register is ahead.
func (m *Manager) settleNames(records map[string]Record) error {
	names, err := m.names.All()
	if err != nil {
		return err
	}
	for name, id := range names {
		r, ok := records[id]
		if !ok || names[r.Name] == id {
			continue
		}
		r.Name = name
		if err := m.records.Put(id, r); err != nil {
			return err
		}
		records[id] = r
	}
	return nil
}

func checkName(name string) (string, error) {
	plain := strings.TrimPrefix(name, "/")
	if !nameRules.MatchString(plain) {
		return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name))
	}
	return plain, nil
}

// reserveName gives id its name: the one asked for, or a free one made up.
func (m *Manager) reserveName(name, id string) (string, error) {
	if name != "" {
		name, err := checkName(name)
		if err != nil {
			return "", err
		}
		return name, conflict(m.names.Reserve(name, id))
	}
	for range 6 {
		name := makeName()
		err := m.names.Reserve(name, id)
		if err == nil || !errdefs.IsAlreadyExists(err) {
			return name, err
		}
	}
	return id[:12], m.names.Reserve(id[:12], id)
}

// conflict puts a taken name into Docker's words.
func conflict(err error) error {
	var taken *state.TakenError
	if !errors.As(err, &taken) {
		return err
	}
	return errdefs.ErrConflict.WithMessage(fmt.Sprintf(
		"Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.",
		"/"+taken.Name, taken.Owner))
}

// newID returns a random identifier of 64 hexadecimal digits. As in Docker, its
// short form must not look like a number, since it becomes a host name.
func newID() (string, error) {
	for {
		var b [32]byte
		if _, err := rand.Read(b[:]); err != nil {
			return "", err
		}
		id := hex.EncodeToString(b[:])
		if strings.ContainsAny(id[:12], "abcdef") {
			return id, nil
		}
	}
}

// makeName makes up a name such as "steady_tugboat".
func makeName() string {
	return adjectives[mathrand.IntN(len(adjectives))] + "_" + nouns[mathrand.IntN(len(nouns))] //nolint:gosec // a name is no secret
}

var adjectives = []string{
	"agile", "amber", "ample", "brave", "breezy", "bright", "brisk", "calm", "candid", "careful", "cheerful", "clever", "coastal",
	"crisp", "daring", "deep", "distant", "eager", "early", "earnest", "fair", "fearless", "fine", "fleet", "fluent", "gallant", "gentle",
	"glad", "golden", "grand", "happy", "hardy", "honest", "jolly", "keen", "kind", "lasting", "light", "lively", "loyal", "lucid", "merry",
	"mighty", "modest", "nimble", "noble", "open", "patient", "placid", "polite", "prompt", "proud", "quick", "quiet", "ready", "robust",
	"rolling", "salty", "seaworthy", "serene", "sharp", "silent", "silver", "sincere", "smooth", "solid", "sound", "stable", "steady", "stout",
	"strong", "sturdy", "sunny", "swift", "tidy", "trim", "true", "trusty", "upright", "vast", "vivid", "warm", "watchful", "wise", "witty",
}

var nouns = []string{
	"anchor", "barge", "barque", "beacon", "berth", "binnacle", "boom", "bosun", "bow", "bridge", "brig", "buoy", "cabin", "canoe", "capstan",
	"captain", "caravel", "catamaran", "clipper", "compass", "coracle", "corvette", "cutter", "davit", "deck", "dhow", "dinghy", "dock", "dory",
	"ferry", "fleet", "frigate", "funnel", "galleon", "galley", "gangway", "harbour", "hatch", "hawser", "helm", "hull", "jetty", "junk", "kayak",
	"keel", "ketch", "lagoon", "lantern", "lighthouse", "liner", "lugger", "mainsail", "mariner", "marina", "mast", "mooring", "navigator", "oar",
	"pier", "pilot", "pinnace", "porthole", "prow", "quay", "raft", "rigging", "rudder", "sail", "schooner", "sextant", "shanty", "skiff", "skipper",
	"sloop", "spar", "spinnaker", "steamer", "stern", "tanker", "tender", "tide", "tiller", "topsail", "trawler", "trimaran", "tugboat", "wharf",
	"wherry", "windlass", "yacht", "yawl",
}
