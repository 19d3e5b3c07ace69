package api

import (
	"context"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/plugin"
)

// absent answers for what Docker has and the engine does not do yet.
func absent(what string) handler {
	err := notImplemented(what)
	return func(context.Context, *response, *request) error { return err }
}

var errNoSwarm = errdefs.ErrUnavailable.WithMessage(
	`This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`)

// noSwarm answers as every engine outside a swarm does.
func noSwarm(context.Context, *response, *request) error { return errNoSwarm }

// leaveSwarm answers as every engine outside a swarm does.
func leaveSwarm(context.Context, *response, *request) error {
	return errdefs.ErrUnavailable.WithMessage("This node is not part of a swarm")
}

// noPlugins lists the engine's plugins: there are none.
func noPlugins(_ context.Context, w *response, _ *request) error {
	return writeJSON(w, http.StatusOK, []plugin.Plugin{})
}

// noSuchPlugin answers for any plugin by name.
func noSuchPlugin(_ context.Context, _ *response, r *request) error {
	return errdefs.ErrNotFound.WithMessage("plugin \"" + r.name() + "\" not found")
}

// absentRoutes are the parts of Docker that the engine has none of: swarm,
// managed plugins, and for now the builder.
func (s *Server) absentRoutes() []route {
	swarm := []struct{ method, path string }{
		{"GET", "/swarm"},
		{"GET", "/swarm/unlockkey"},
		{"POST", "/swarm/update"},
		{"POST", "/swarm/unlock"},
		{"GET", "/nodes"},
		{"GET", "/nodes/{name}"},
		{"DELETE", "/nodes/{name}"},
		{"POST", "/nodes/{name}/update"},
		{"GET", "/services"},
		{"POST", "/services/create"},
		{"GET", "/services/{name}"},
		{"DELETE", "/services/{name}"},
		{"POST", "/services/{name}/update"},
		{"GET", "/services/{name}/logs"},
		{"GET", "/tasks"},
		{"GET", "/tasks/{name}"},
		{"GET", "/tasks/{name}/logs"},
		{"GET", "/secrets"},
		{"POST", "/secrets/create"},
		{"GET", "/secrets/{name}"},
		{"DELETE", "/secrets/{name}"},
		{"POST", "/secrets/{name}/update"},
		{"GET", "/configs"},
		{"POST", "/configs/create"},
		{"GET", "/configs/{name}"},
		{"DELETE", "/configs/{name}"},
		{"POST", "/configs/{name}/update"},
	}
	routes := []route{
		{"POST", "/swarm/init", ClassRead, absent("swarm")},
		{"POST", "/swarm/join", ClassRead, absent("swarm")},
		{"POST", "/swarm/leave", ClassRead, leaveSwarm},
		{"GET", "/plugins", ClassRead, noPlugins},
		{"GET", "/plugins/privileges", ClassRead, absent("installing plugins")},
		{"POST", "/plugins/pull", ClassRead, absent("installing plugins")},
		{"POST", "/plugins/create", ClassRead, absent("creating plugins")},
		{"GET", "/plugins/{name}/json", ClassRead, noSuchPlugin},
		{"DELETE", "/plugins/{name}", ClassRead, noSuchPlugin},
		{"POST", "/plugins/{name}/enable", ClassRead, noSuchPlugin},
		{"POST", "/plugins/{name}/disable", ClassRead, noSuchPlugin},
		{"POST", "/plugins/{name}/push", ClassRead, noSuchPlugin},
		{"POST", "/plugins/{name}/upgrade", ClassRead, noSuchPlugin},
		{"POST", "/plugins/{name}/set", ClassRead, noSuchPlugin},
		{"POST", "/build", ClassRead, absent("building images")},
		{"POST", "/build/cancel", ClassRead, absent("building images")},
		{"POST", "/build/prune", ClassRead, absent("building images")},
		{"POST", "/session", ClassRead, absent("building images")},
		{"POST", "/grpc", ClassRead, absent("building images")},
	}
	for _, r := range swarm {
		routes = append(routes, route{r.method, r.path, ClassRead, noSwarm})
	}
	return routes
}
