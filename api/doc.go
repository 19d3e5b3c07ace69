// Package api serves the Docker Engine HTTP API. It is the only package that
// knows HTTP: it decodes requests, calls the engine's parts through the small
// interfaces it declares (backend.go), shapes what they return for the version
// of the API that the client speaks (shape.go) and turns their errors into
// status codes (errors.go). It holds no state of its own beyond open
// connections and takes no locks on objects.
//
// A request passes [Server.ServeHTTP], which recovers panics and logs; dispatch,
// which negotiates the version and finds the route; and the route's handler,
// which returns an error or has answered. Routes are data (routes.go): method,
// path, handler and the class of the operation, which says what locks the
// engine takes for it and how the request is treated at shutdown.
//
// Responses that last as long as the client wants (logs, events, attach, exec,
// archives) write from the handler's own goroutine, so a client that does not
// read stalls only itself. Their context ends when the client goes away or the
// server shuts down, and every write still blocked then is cut off.
package api
