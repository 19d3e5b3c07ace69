package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	password  = "demo"
	startTime = 2 * time.Minute
)

// server is a container's database, reached by its published port.
type server struct {
	name string
	port int
}

func (s server) connect(ctx context.Context) (*pgx.Conn, error) {
	return pgx.Connect(ctx, fmt.Sprintf(
		"host=127.0.0.1 port=%d user=postgres password=%s dbname=demo sslmode=disable connect_timeout=5", s.port, password))
}

// await asks until there is an answer.
func (s server) await(ctx context.Context, sql string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, fmt.Errorf("%s did not answer within %v", s.name, startTime))
	defer cancel()
	var last error
	for ctx.Err() == nil {
		if last = s.exec(ctx, sql); last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
	return fmt.Errorf("%w: %w", context.Cause(ctx), last)
}

func (s server) exec(ctx context.Context, sql string) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, sql)
	return err
}

// number asks for one number.
func (s server) number(ctx context.Context, sql string) (int64, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var n int64
	err = conn.QueryRow(ctx, sql).Scan(&n)
	return n, err
}
