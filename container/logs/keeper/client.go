package keeper

import (
	"io"
	"net"

	"slipway/container/logs/wire"
)

// maxSegments bounds what is remembered of the order of a slow client's two streams.
const maxSegments = 1024

// segment is a part of a stream that a client is still to get.
type segment struct {
	stream int
	end    int64
}

// client is an attached connection. Its fields are guarded by container.mu.
type client struct {
	conn  net.Conn
	wants [2]bool
	sent  [2]int64 // positions up to which the client has the streams
	queue []segment
	gone  bool
}

// drop disconnects the client; called under the container's lock.
func (cl *client) drop() {
	cl.gone = true
	_ = cl.conn.Close()
}

// enqueue tells the client of output up to end; called under the container's lock.
func (cl *client) enqueue(stream int, end int64) {
	if !cl.wants[stream] {
		return
	}
	queued := cl.sent[stream]
	for i := len(cl.queue) - 1; i >= 0; i-- {
		seg := &cl.queue[i]
		if seg.stream != stream {
			continue
		}
		if i == len(cl.queue)-1 || len(cl.queue) >= maxSegments {
			// Adjacent, or so many switches that their order is given up, not the output.
			seg.end = max(seg.end, end)
			return
		}
		queued = seg.end
		break
	}
	if end > queued {
		cl.queue = append(cl.queue, segment{stream: stream, end: end})
	}
}

// attach adds a client that wants the streams of req and returns where they begin for it. Unless it
// fails, serve must follow and then workers.Done.
func (c *container) attach(conn net.Conn, req *wire.Attach) (*client, [2]int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return nil, [2]int64{}, &failure{wire.CodeNotFound, "container " + c.id + " is not registered any more"}
	}
	c.workers.Add(1)
	cl := &client{conn: conn}
	for i, want := range []bool{req.Stdout, req.Stderr} {
		s := c.streams[i]
		if s == nil || !want {
			continue
		}
		cl.wants[i] = true
		cl.sent[i] = s.spool.size
		if req.From != nil {
			cl.sent[i] = min(max(req.From[i], s.spool.punched), s.spool.size)
		}
		cl.enqueue(i, s.spool.size)
	}
	c.clients[cl] = struct{}{}
	if req.From != nil && c.absent.count > 0 {
		c.absent.count--
	}
	c.changed.Broadcast()
	return cl, cl.sent, nil
}

func (c *container) detach(cl *client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cl.drop()
	delete(c.clients, cl)
	for _, s := range c.each() {
		c.release(s)
	}
	c.changed.Broadcast()
}

// serve sends a client its output until the streams have ended or it is gone.
func (c *container) serve(cl *client) {
	defer c.detach(cl)
	c.workers.Go(func() { c.watch(cl) })
	frame := make([]byte, wire.HeaderSize+32<<10)
	for {
		seg, n, ok := c.next(cl, len(frame)-wire.HeaderSize)
		if !ok {
			return
		}
		if n == 0 {
			wire.PutHeader(frame, wire.KindEnd, 0)
			_, _ = cl.conn.Write(frame[:wire.HeaderSize]) // a client that left has left
			return
		}
		s := c.streams[seg.stream]
		wire.PutHeader(frame, s.kind, n)
		if s.spool.read(frame[wire.HeaderSize:wire.HeaderSize+n], seg.end) != nil {
			return
		}
		if _, err := cl.conn.Write(frame[:wire.HeaderSize+n]); err != nil {
			return
		}
		c.sent(cl, seg.stream, n)
	}
}

// next waits for output and returns its stream, where it starts (as the segment's end) and its
// length: 0 at the end. It is false when the client is gone.
func (c *container) next(cl *client, most int) (segment, int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if cl.gone {
			return segment{}, 0, false
		}
		if len(cl.queue) > 0 {
			seg := cl.queue[0]
			from := cl.sent[seg.stream]
			return segment{stream: seg.stream, end: from}, int(min(seg.end-from, int64(most))), true
		}
		over := true
		for i, s := range c.streams {
			if cl.wants[i] && !s.eof {
				over = false
			}
		}
		if over {
			return segment{}, 0, true
		}
		if c.stopped {
			return segment{}, 0, false
		}
		c.changed.Wait()
	}
}

func (c *container) sent(cl *client, stream, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cl.sent[stream] += int64(n)
	if cl.sent[stream] >= cl.queue[0].end {
		cl.queue = cl.queue[1:]
	}
	c.release(c.streams[stream])
	c.changed.Broadcast()
}

// watch notices when a client disconnects while there is nothing to send to it.
func (c *container) watch(cl *client) {
	_, _ = io.Copy(io.Discard, cl.conn)
	c.mu.Lock()
	defer c.mu.Unlock()
	cl.drop()
	c.changed.Broadcast()
}
