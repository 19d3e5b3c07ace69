package api

import (
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"

	mobycontainer "github.com/moby/moby/api/types/container"
)

// archivePath reads the path inside the container.
func archivePath(r *request) (string, error) {
	path := r.query.get("path")
	if path == "" {
		return "", invalidf("bad parameter: path cannot be empty")
	}
	if strings.ContainsRune(path, 0) {
		return "", invalidf("bad parameter: path contains a null character")
	}
	return path, nil
}

// setPathStat puts what the copied path is into the header, where Docker's
// client looks for it.
func setPathStat(h http.Header, stat mobycontainer.PathStat) error {
	b, err := json.Marshal(stat)
	if err != nil {
		return err
	}
	h.Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString(b))
	return nil
}

func (s *Server) statArchive(ctx context.Context, w *response, r *request) error {
	path, err := archivePath(r)
	if err != nil {
		return err
	}
	stat, err := s.cfg.Containers.ArchiveStat(ctx, r.name(), path)
	if err != nil {
		return err
	}
	if err := setPathStat(w.Header(), stat); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) getArchive(ctx context.Context, w *response, r *request) error {
	path, err := archivePath(r)
	if err != nil {
		return err
	}
	tar, stat, err := s.cfg.Containers.ArchiveGet(ctx, r.name(), path)
	if err != nil {
		return err
	}
	defer tar.Close()
	if err := setPathStat(w.Header(), stat); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-tar")
	out := newStreamWriter(ctx, w, false)
	defer out.close()
	if !acceptsGzip(r.Header) {
		return copyStream(out, tar)
	}
	w.Header().Set("Content-Encoding", "gzip")
	// Files are copied on one machine more often than across a slow line.
	zw, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err != nil {
		return err
	}
	if err := copyStream(zw, tar); err != nil {
		return err // unfinished on purpose: the client must see that it is
	}
	return zw.Close()
}

// acceptsGzip reports whether the client asked for compression.
func acceptsGzip(h http.Header) bool {
	for offer := range strings.SplitSeq(strings.Join(h.Values("Accept-Encoding"), ","), ",") {
		coding, params, _ := strings.Cut(offer, ";")
		if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			continue
		}
		q, ok := strings.CutPrefix(strings.TrimSpace(params), "q=")
		if !ok {
			return true
		}
		weight, err := strconv.ParseFloat(q, 64)
		return err == nil && weight > 0
	}
	return false
}

func (s *Server) putArchive(ctx context.Context, w *response, r *request) error {
	path, err := archivePath(r)
	if err != nil {
		return err
	}
	err = s.cfg.Containers.ArchivePut(ctx, r.name(), path, r.Body,
		r.query.flag("noOverwriteDirNonDir"), r.query.flag("copyUIDGID"))
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// copyBuffer is large enough that flushing after each write costs little.
const copyBuffer = 64 << 10

// copyStream copies everything with few, large writes.
func copyStream(w io.Writer, r io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, copyBuffer))
	return err
}
