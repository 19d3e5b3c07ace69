package api

import (
	"context"
	"net/http"
	"net/url"
	"path"
	"strings"
)

// handler answers a request, or returns an error before it has written anything.
type handler func(ctx context.Context, w *response, r *request) error

// request is an HTTP request with what every handler needs of it.
type request struct {
	*http.Request

	version Version
	query   query
}

// name is the route's {name}: the object the request is about.
func (r *request) name() string { return r.PathValue("name") }

// route is one endpoint. The path has at most one wildcard, {name}.
type route struct {
	method, path string
	class        Class
	handle       handler
}

func (s *Server) routes() []route {
	var all []route
	for _, group := range [][]route{
		s.systemRoutes(), s.containerRoutes(), s.imageRoutes(), s.objectRoutes(), s.ownRoutes(), s.absentRoutes(),
	} {
		all = append(all, group...)
	}
	return all
}

func (s *Server) systemRoutes() []route {
	return []route{
		{"GET", "/_ping", ClassRead, s.ping},
		{"HEAD", "/_ping", ClassRead, s.ping},
		{"GET", "/version", ClassRead, s.getVersion},
		{"GET", "/info", ClassRead, s.getInfo},
		{"GET", "/events", ClassWatch, s.getEvents},
		{"GET", "/system/df", ClassRead, s.getDiskUsage},
		{"POST", "/auth", ClassRead, s.postAuth},
	}
}

func (s *Server) containerRoutes() []route {
	return []route{
		{"GET", "/containers/json", ClassRead, s.listContainers},
		{"POST", "/containers/create", ClassCreate, s.createContainer},
		{"POST", "/containers/prune", ClassSweep, s.pruneContainers},
		{"GET", "/containers/{name}/json", ClassRead, s.inspectContainer},
		{"GET", "/containers/{name}/changes", ClassShare, s.containerChanges},
		{"GET", "/containers/{name}/top", ClassRead, s.containerTop},
		{"GET", "/containers/{name}/stats", ClassWatch, s.containerStats},
		{"GET", "/containers/{name}/logs", ClassWatch, s.containerLogs},
		{"GET", "/containers/{name}/export", ClassShare, s.exportContainer},
		{"GET", "/containers/{name}/attach/ws", ClassWatch, absent("attach over a websocket")},
		{"POST", "/containers/{name}/attach", ClassWatch, s.attachContainer},
		{"POST", "/containers/{name}/wait", ClassWatch, s.waitContainer},
		{"POST", "/containers/{name}/kill", ClassInterrupt, s.killContainer},
		{"POST", "/containers/{name}/resize", ClassInterrupt, s.resizeContainer},
		{"POST", "/containers/{name}/start", ClassTransition, s.startContainer},
		{"POST", "/containers/{name}/stop", ClassTransition, s.stopContainer},
		{"POST", "/containers/{name}/restart", ClassTransition, s.restartContainer},
		{"POST", "/containers/{name}/pause", ClassTransition, s.pauseContainer},
		{"POST", "/containers/{name}/unpause", ClassTransition, s.unpauseContainer},
		{"POST", "/containers/{name}/rename", ClassTransition, s.renameContainer},
		{"POST", "/containers/{name}/update", ClassTransition, s.updateContainer},
		{"DELETE", "/containers/{name}", ClassTransition, s.removeContainer},
		{"POST", "/commit", ClassTransition, s.commitContainer},
		{"HEAD", "/containers/{name}/archive", ClassShare, s.statArchive},
		{"GET", "/containers/{name}/archive", ClassShare, s.getArchive},
		{"PUT", "/containers/{name}/archive", ClassShare, s.putArchive},
		{"GET", "/containers/{name}/checkpoints", ClassRead, absent("checkpoint")},
		{"POST", "/containers/{name}/checkpoints", ClassTransition, absent("checkpoint")},
		{"POST", "/containers/{name}/exec", ClassShare, s.createExec},
		{"POST", "/exec/{name}/start", ClassShare, s.startExec},
		{"POST", "/exec/{name}/resize", ClassInterrupt, s.resizeExec},
		{"GET", "/exec/{name}/json", ClassRead, s.inspectExec},
	}
}

func (s *Server) imageRoutes() []route {
	return []route{
		{"GET", "/images/json", ClassRead, s.listImages},
		{"GET", "/images/search", ClassRead, absent("searching registries")},
		{"GET", "/images/get", ClassShare, s.saveImages},
		{"GET", "/images/{name}/get", ClassShare, s.saveImages},
		{"GET", "/images/{name}/json", ClassRead, s.inspectImage},
		{"GET", "/images/{name}/history", ClassRead, s.imageHistory},
		{"GET", "/images/{name}/attestations", ClassRead, absent("showing image attestations")},
		{"POST", "/images/create", ClassSharedObject, s.createImage},
		{"POST", "/images/load", ClassSharedObject, s.loadImages},
		{"POST", "/images/{name}/push", ClassShare, s.pushImage},
		{"POST", "/images/{name}/tag", ClassSharedObject, s.tagImage},
		{"POST", "/images/prune", ClassSweep, s.pruneImages},
		{"DELETE", "/images/{name}", ClassSharedObject, s.removeImage},
		{"GET", "/distribution/{name}/json", ClassRead, absent("inspecting images in a registry")},
	}
}

func (s *Server) objectRoutes() []route {
	return []route{
		{"GET", "/volumes", ClassRead, s.listVolumes},
		{"GET", "/volumes/{name}", ClassRead, s.inspectVolume},
		{"POST", "/volumes/create", ClassSharedObject, s.createVolume},
		{"POST", "/volumes/prune", ClassSweep, s.pruneVolumes},
		{"PUT", "/volumes/{name}", ClassSharedObject, updateVolume},
		{"DELETE", "/volumes/{name}", ClassSharedObject, s.removeVolume},
		{"GET", "/networks", ClassRead, s.listNetworks},
		{"GET", "/networks/{name}", ClassRead, s.inspectNetwork},
		{"POST", "/networks/create", ClassSharedObject, s.createNetwork},
		{"POST", "/networks/prune", ClassSweep, s.pruneNetworks},
		{"POST", "/networks/{name}/connect", ClassTransition, s.connectNetwork},
		{"POST", "/networks/{name}/disconnect", ClassTransition, s.disconnectNetwork},
		{"DELETE", "/networks/{name}", ClassSharedObject, s.removeNetwork},
	}
}

// ownRoutes are for Slipway's own client.
func (s *Server) ownRoutes() []route {
	return []route{
		{"GET", "/debug/check", ClassSweep, s.debugCheck},
		{"GET", "/debug/locks", ClassRead, s.debugLocks},
		{"GET", "/debug/spans", ClassRead, s.debugSpans},
		{"GET", "/pool", ClassRead, s.poolStatus},
		{"POST", "/pool/grow", ClassSharedObject, s.growPool},
		{"POST", "/pool/trim", ClassSharedObject, s.trimPool},
	}
}

// resolver finds a route's pattern for a path. Names of images contain slashes,
// which [http.ServeMux] takes for the end of the name: the resolver knows what
// can follow a name and escapes the slashes before.
type resolver map[string][]string

// newResolver collects, for each method and collection, what can follow a name,
// the longest first.
func newResolver(routes []route) resolver {
	res := resolver{}
	for _, rt := range routes {
		collection, action, ok := strings.Cut(rt.path, "/{name}")
		if !ok {
			continue
		}
		key := rt.method + " " + collection
		actions := append(res[key], action)
		for i := len(actions) - 1; i > 0 && len(actions[i]) > len(actions[i-1]); i-- {
			actions[i], actions[i-1] = actions[i-1], actions[i]
		}
		res[key] = actions
	}
	return res
}

// resolve returns the URL that the mux is to match for a path without version.
// The path is cleaned, so that the mux never redirects.
func (res resolver) resolve(method, p string) *url.URL {
	p = path.Clean("/" + p)
	u := &url.URL{Path: p}
	collection, rest, ok := strings.Cut(p[1:], "/")
	if !ok || !strings.Contains(rest, "/") {
		return u
	}
	for _, action := range res[method+" /"+collection] {
		name, ok := strings.CutSuffix(rest, action)
		if ok && name != "" {
			u.RawPath = "/" + collection + "/" + url.PathEscape(name) + action
			return u
		}
	}
	return u
}
