package postgres

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"path"
	"time"

	"slipway/database"
)

// checkpointTime bounds what a commit waits for a checkpoint. The server finishes it on its own afterwards.
const checkpointTime = 10 * time.Second

// readyQuery tells the server that is there to stay from the one that the image's entrypoint starts while it
// initialises the data: that one is given an empty listen_addresses on its command line, and is not process 1.
const readyQuery = `SELECT CASE WHEN setting = '' AND source = 'command line'
            THEN split_part(pg_read_file('postmaster.pid'), chr(10), 1) = '1' ELSE true END
  FROM pg_settings WHERE name = 'listen_addresses';
`

var errInitialising = errors.New("the database is being initialised")

// Ready asks the server a question over its local socket.
func (a *Adapter) Ready(ctx context.Context, g database.Guest) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*probeTime, database.ErrTimeout)
	defer cancel()
	_, out, err := a.connect(ctx, g, readyQuery, probeTime-time.Second)
	if err != nil {
		return unavailable(err)
	}
	if !bytes.Equal(bytes.TrimSpace(out), []byte("t")) {
		return unavailable(errInitialising)
	}
	return nil
}

// Starting looks at the state that the server keeps in its data directory. The file has eight lines; in a data
// directory that was not shut down, the state is that of the server before.
func (a *Adapter) Starting(f database.Files) bool {
	data, err := f.Read(path.Join(a.dataDir, pidFile), pidFileLimit)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	state := parsePidFile(data).state
	return state != "ready" && state != "standby"
}

// Checkpoint runs CHECKPOINT. In a server that replays another's log it does what is possible there.
func (a *Adapter) Checkpoint(ctx context.Context, g database.Guest) error {
	timeout := checkpointTime
	if deadline, ok := ctx.Deadline(); ok {
		timeout = max(min(timeout, time.Until(deadline)-time.Second), time.Second)
	}
	_, _, err := a.connect(ctx, g, "CHECKPOINT;\n", timeout)
	return err
}

const describeQuery = `SELECT json_build_object(
  'version', current_setting('server_version'),
  'recovery', pg_is_in_recovery(),
  'bytes', (SELECT sum(pg_database_size(oid)) FROM pg_database),
  'paths', (SELECT json_agg(p) FROM (
      SELECT current_setting('data_directory') AS p
      UNION ALL
      SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE pg_tablespace_location(oid) <> '') AS t));
`

// Describe asks the server for its version, size and places.
func (a *Adapter) Describe(ctx context.Context, g database.Guest) (database.Description, error) {
	var d database.Description
	if _, err := a.queryJSON(ctx, g, describeQuery, checkpointTime, &d); err != nil {
		return database.Description{}, err
	}
	d.Version = clean(d.Version, 100)
	if a.walDir != "" {
		d.Paths = append(d.Paths, a.walDir)
	}
	return d, nil
}
