package image

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/registry"
)

// registryRules say to which registries a connection need not be secure.
type registryRules struct {
	hosts    []string
	prefixes []netip.Prefix
}

func parseRegistryRules(insecure []string) (*registryRules, error) {
	rules := &registryRules{}
	for _, entry := range insecure {
		entry = strings.ToLower(strings.TrimSpace(entry))
		if prefix, err := netip.ParsePrefix(entry); err == nil {
			rules.prefixes = append(rules.prefixes, prefix.Masked())
			continue
		}
		if strings.Contains(entry, "://") || strings.Contains(entry, "/") || entry == "" {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("insecure registry %q is not valid: want host, host:port or a CIDR", entry))
		}
		rules.hosts = append(rules.hosts, entry)
	}
	return rules, nil
}

// insecure says whether plain HTTP and unverified TLS are allowed to host.
func (r *registryRules) insecure(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	name = strings.Trim(name, "[]")
	if name == "localhost" || slices.Contains(r.hosts, strings.ToLower(host)) || slices.Contains(r.hosts, strings.ToLower(name)) {
		return true
	}
	// Names are not resolved: an answer of a name server shall not make a
	// connection insecure.
	addr, err := netip.ParseAddr(name)
	if err != nil {
		return false
	}
	addr = addr.Unmap()
	return addr.IsLoopback() || slices.ContainsFunc(r.prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// resolver returns access to the registry of named, with the user's
// credentials.
func (m *Manager) resolver(ctx context.Context, named reference.Named, auth *registry.AuthConfig) remotes.Resolver {
	return docker.NewResolver(docker.ResolverOptions{Hosts: config.ConfigureHosts(ctx, m.hostOptions(reference.Domain(named), auth))})
}

// hostOptions say how the registry called home is reached.
func (m *Manager) hostOptions(home string, auth *registry.AuthConfig) config.HostOptions {
	options := config.HostOptions{
		Credentials: func(host string) (string, string, error) {
			// Never to another host, should the registry redirect there.
			if auth == nil || host != home && (home != dockerHub || host != "registry-1.docker.io") {
				return "", "", nil
			}
			if auth.IdentityToken != "" {
				return "", auth.IdentityToken, nil
			}
			return auth.Username, auth.Password, nil
		},
	}
	if m.registries.insecure(home) {
		// HTTPS is tried first; with "http" as the default the client falls
		// back when the registry does not speak TLS.
		options.DefaultScheme = "http"
		options.DefaultTLS = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // allowed by configuration, or loopback
	}
	return options
}

// pullError puts a registry's answer into Docker's words.
func pullError(named reference.Named, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	code, message := registryAnswer(err)
	switch {
	case code == 401 || code == 403 || errors.Is(err, docker.ErrInvalidAuthorization):
		if message == "" {
			message = "denied: requested access to the resource is denied"
		}
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf(
			"pull access denied for %s, repository does not exist or may require 'docker login': %s", reference.FamiliarName(named), message))
	case code == 404 || errdefs.IsNotFound(err):
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf(
			"manifest for %s not found: manifest unknown: manifest unknown", reference.FamiliarString(named)))
	}
	return fmt.Errorf("pulling %s: %w", reference.FamiliarString(named), err)
}

// registryAnswer returns the HTTP status of a registry's refusal, or 0, and what
// the registry said.
func registryAnswer(err error) (code int, message string) {
	if status, ok := errors.AsType[remoteerrors.ErrUnexpectedStatus](err); ok {
		code = status.StatusCode
	}
	if coded, ok := errors.AsType[docker.Error](err); ok {
		message = strings.ToLower(coded.Code.Error()) + ": " + coded.Message
		if coded.Message == "" {
			message = coded.Code.Error()
		}
	}
	return code, message
}
