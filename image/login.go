package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/registry"
)

const (
	dockerHub = "docker.io"
	// loginTimeout is Docker's.
	loginTimeout = 15 * time.Second
)

// Login checks credentials with the registry at auth.ServerAddress, or Docker Hub
// if there is none. A registry whose tokens can be renewed gives one for that, to
// be used instead of the password from then on.
func (m *Manager) Login(ctx context.Context, auth registry.AuthConfig) (token string, err error) {
	home, err := registryHost(auth.ServerAddress)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, loginTimeout, errors.New("the registry did not answer in time"))
	defer cancel()
	options := m.hostOptions(home, &auth)
	options.AuthorizerOpts = append(options.AuthorizerOpts, docker.WithFetchRefreshToken(
		func(_ context.Context, refresh string, _ *http.Request) { token = refresh }))
	hosts, err := config.ConfigureHosts(ctx, options)(home)
	if err != nil {
		return "", err
	}
	err = errdefs.ErrNotFound.WithMessage("no registry at " + home)
	for _, host := range hosts {
		if err = login(ctx, host); err == nil || errdefs.IsUnauthorized(err) {
			break
		}
	}
	if err != nil {
		return "", err
	}
	if token == "" {
		token = auth.IdentityToken
	}
	return token, nil
}

// registryHost is the registry that a client means by an address, which may be a
// URL.
func registryHost(address string) (string, error) {
	if address == "" {
		return dockerHub, nil
	}
	if !strings.HasPrefix(address, "https://") && !strings.HasPrefix(address, "http://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "", errdefs.ErrInvalidArgument.WithMessage("unable to parse server address: " + address)
	}
	switch u.Host {
	case dockerHub, "index.docker.io", "registry-1.docker.io":
		return dockerHub, nil
	}
	return u.Host, nil
}

// login asks for the root of the registry's API, first to be told how to
// authenticate.
func login(ctx context.Context, host docker.RegistryHost) error {
	address := host.Scheme + "://" + host.Host + host.Path + "/"
	resp, err := knock(ctx, host, address, false) //nolint:bodyclose // knock has done it
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusUnauthorized {
		if err := host.Authorizer.AddResponses(ctx, []*http.Response{resp}); err != nil {
			return loginError(address, err)
		}
		if resp, err = knock(ctx, host, address, true); err != nil { //nolint:bodyclose // likewise
			return loginError(address, err)
		}
	}
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	message := fmt.Sprintf("login attempt to %s failed with status: %s", resp.Request.URL, resp.Status)
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		return errdefs.ErrUnauthenticated.WithMessage(message)
	}
	return errdefs.ErrUnavailable.WithMessage(message)
}

// knock makes a request whose answer's header alone counts.
func knock(ctx context.Context, host docker.RegistryHost, address string, authorized bool) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	if authorized {
		if err := host.Authorizer.Authorize(ctx, req); err != nil {
			return nil, err
		}
	}
	resp, err := host.Client.Do(req)
	if err != nil {
		return nil, err
	}
	_, err = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return resp, errors.Join(err, resp.Body.Close())
}

// loginError puts the refusal of a token into Docker's words.
func loginError(address string, err error) error {
	status, ok := errors.AsType[remoteerrors.ErrUnexpectedStatus](err)
	if !ok && !errors.Is(err, docker.ErrInvalidAuthorization) {
		return err
	}
	if ok && status.StatusCode != http.StatusUnauthorized && status.StatusCode != http.StatusForbidden {
		return errdefs.ErrUnavailable.WithMessage(err.Error())
	}
	reason := "authentication required"
	var body struct {
		Details string // Docker Hub's own
		Errors  []struct{ Message string }
	}
	if json.Unmarshal(status.Body, &body) == nil {
		switch {
		case body.Details != "":
			reason = body.Details
		case len(body.Errors) > 0 && body.Errors[0].Message != "":
			reason = body.Errors[0].Message
		}
	}
	return errdefs.ErrUnauthenticated.WithMessage(fmt.Sprintf("Get %q: unauthorized: %s", address, reason))
}
