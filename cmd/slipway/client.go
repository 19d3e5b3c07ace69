package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"

	"slipway/internal/version"

	"github.com/moby/moby/client"
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

// daemonClient connects to the daemon when a command needs it.
type daemonClient struct{ host string }

func (d *daemonClient) address() string {
	return cmp.Or(d.host, os.Getenv("SLIPWAY_HOST"), os.Getenv("DOCKER_HOST"), defaultHost)
}

// connect makes a client. For tcp addresses the docker client's variables say where the certificates are.
func (d *daemonClient) connect() (*client.Client, error) {
	if _, err := client.ParseHostURL(d.address()); err != nil {
		return nil, usageError{fmt.Errorf("the daemon's address: %w", err)}
	}
	return client.New(client.WithTLSClientConfigFromEnv(), client.WithHost(d.address()),
		client.WithUserAgent("slipway/"+version.Version()))
}

// call asks one of the daemon's own endpoints and reads its JSON answer into v.
func (d *daemonClient) call(ctx context.Context, method, path string, query url.Values, v any) error {
	cli, err := d.connect()
	if err != nil {
		return err
	}
	defer cli.Close()
	transport := &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return cli.Dialer()(ctx) },
		DisableKeepAlives: true,
	}
	u := url.URL{Scheme: "http", Host: "slipway", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), http.NoBody)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return d.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("the daemon's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return answerError(resp, body)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("the daemon's answer: %w", err)
	}
	return nil
}

// answerError makes an error of the daemon's {"message": …}.
func answerError(resp *http.Response, body []byte) error {
	var e struct{ Message string }
	if json.Unmarshal(body, &e) == nil && e.Message != "" {
		return errors.New(e.Message)
	}
	return fmt.Errorf("the daemon answered %s", resp.Status)
}

// unreachable explains a connection that failed.
func (d *daemonClient) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" || client.IsErrConnectionFailed(err) {
		return fmt.Errorf("cannot reach the daemon at %s: is slipwayd running, and may this user connect?", d.address())
	}
	return err
}
