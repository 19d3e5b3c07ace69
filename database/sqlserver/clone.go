package sqlserver

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"slipway/database"
)

// BeforeFirstStart does nothing: what reaches out of SQL Server stands in its system databases, which only the server
// can change. That a clone's files are its own is the work of [Prepare].
func (a *Adapter) BeforeFirstStart(context.Context, database.Files, database.Request) (database.Report, error) {
	return database.Report{}, nil
}

// NeedsGate is true unless the clone keeps everything as it is.
func (a *Adapter) NeedsGate(_ database.Files, r database.Request) bool {
	_, password := database.Getenv(r.Env, EnvPassword)
	return password || !r.KeepsOutward()
}

// AfterFirstReady switches off what reaches out of the clone, durably, and sets the password of sa that stands in the
// request. Jobs run only if somebody starts an agent, which no container does; they are disabled all the same.
func (a *Adapter) AfterFirstReady(ctx context.Context, g database.Guest, r database.Request) (database.Report, error) {
	s, err := a.connect(ctx, g)
	if err != nil {
		return database.Report{}, err
	}
	defer s.Close()
	report, err := s.outward(ctx, !r.KeepsOutward())
	if err != nil {
		return database.Report{}, err
	}
	if password, ok := database.Getenv(r.Env, EnvPassword); ok && password != "" {
		if err := s.setPassword(ctx, administrator, password); err != nil {
			return database.Report{}, err
		}
	}
	return report, nil
}

// outlet is one thing that reaches out of a server, with the statements that switch it off, if any do.
type outlet struct {
	database.Outward
	off []statement
}

// blocked is the error of a procedure whose component (Agent XPs, Database Mail XPs) is turned off in the server's configuration.
const blocked = 15281

// outward lists what reaches out of the server, and switches it off if it is told to. What cannot be switched off because the whole of
// its component is off counts as off.
func (s *Server) outward(ctx context.Context, off bool) (database.Report, error) {
	var report database.Report
	for _, find := range []func(context.Context) ([]outlet, error){
		s.jobOutlets, s.mailOutlets, s.linkOutlets, s.endpointOutlets, s.startOutlets,
	} {
		found, err := find(ctx)
		if has(err, blocked) {
			continue
		}
		if err != nil {
			return report, err
		}
		for _, o := range found {
			o.Name, o.Detail = clean(o.Name), clean(o.Detail)
			if off && len(o.off) > 0 {
				if err := s.switchOff(ctx, o); err != nil {
					return report, err
				}
				o.Off = true
			}
			report.Outward = append(report.Outward, o.Outward)
		}
	}
	return report, nil
}

func (s *Server) switchOff(ctx context.Context, o outlet) error {
	for _, st := range o.off {
		if err := s.exec(ctx, st); err != nil && !has(err, blocked) {
			return fmt.Errorf("switch off %s %q: %w", o.Kind, o.Name, err)
		}
	}
	return nil
}

func (s *Server) jobOutlets(ctx context.Context) ([]outlet, error) {
	names, err := s.names(ctx, jobs())
	var out []outlet
	for _, job := range names {
		out = append(out, outlet{database.Outward{Kind: "agent job", Name: job}, []statement{disableJob(job)}})
	}
	return out, err
}

func (s *Server) mailOutlets(ctx context.Context) ([]outlet, error) {
	var profiles []string
	err := s.rows(ctx, mailProfiles(), func(r *sql.Rows) error {
		var id int
		var name string
		var description sql.NullString
		err := r.Scan(&id, &name, &description)
		profiles = append(profiles, name)
		return err
	})
	if err != nil || len(profiles) == 0 {
		return nil, err
	}
	return []outlet{{
		database.Outward{Kind: "database mail", Detail: "profiles: " + strings.Join(profiles, ", ")},
		[]statement{stopMail()},
	}}, nil
}

func (s *Server) linkOutlets(ctx context.Context) ([]outlet, error) {
	var out []outlet
	err := s.rows(ctx, linkedServers(), func(r *sql.Rows) error {
		var name string
		var provider, source sql.NullString
		err := r.Scan(&name, &provider, &source)
		out = append(out, outlet{
			database.Outward{Kind: "linked server", Name: name, Detail: provider.String + " " + source.String},
			[]statement{serverOptionOff(name, "data access"), serverOptionOff(name, "rpc out")},
		})
		return err
	})
	return out, err
}

func (s *Server) endpointOutlets(ctx context.Context) ([]outlet, error) {
	var out []outlet
	err := s.rows(ctx, endpoints(), func(r *sql.Rows) error {
		var name, kind string
		err := r.Scan(&name, &kind)
		out = append(out, outlet{database.Outward{Kind: "endpoint", Name: name, Detail: kind}, []statement{stopEndpoint(name)}})
		return err
	})
	return out, err
}

// startOutlets are procedures that run at every start. What one does is not known, and it has run by now: they are
// listed and left.
func (s *Server) startOutlets(ctx context.Context) ([]outlet, error) {
	names, err := s.names(ctx, startProcedures())
	var out []outlet
	for _, p := range names {
		out = append(out, outlet{Outward: database.Outward{Kind: "start procedure", Name: p, Detail: "runs at every start of the server"}})
	}
	return out, err
}
