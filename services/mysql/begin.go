package mysql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
)

// What only the manager half may order: who begins a cluster, and who does not.

// adoptFile lies beside data that came from elsewhere, whose accounts are not
// ours. The next start by order gives them our password.
const adoptFile = "adopt"

// membershipFile lies on the volume, beside the data.
const membershipFile = "members.json"

// recover stops the server at once and finds out how far its data is.
func (s *server) recover(ctx context.Context) (position, error) {
	none := position{Number: -1}
	quick, cancel := context.WithTimeout(ctx, 2*time.Second)
	err := s.stop(quick)
	cancel()
	if err != nil {
		return none, err
	}
	if s.fresh() {
		return none, nil
	}
	if _, err := os.Stat(filepath.Join(s.data(), "sst_in_progress")); err == nil {
		return none, nil // a copy that broke off
	}
	if state, err := os.ReadFile(filepath.Join(s.data(), "grastate.dat")); err == nil {
		if p := parseState(string(state)); p.known() {
			return p, nil
		}
	}
	program, err := s.m.Program(daemon, "mariadb-server")
	if err != nil {
		return none, err
	}
	log := s.mark("recover.log")
	exit, err := s.m.Supervisor().Run(ctx, services.Process{Name: "recover", User: true, Log: "mysql.log", Dir: s.volume.Path,
		Argv: []string{"/bin/sh", "-c", `exec "$1" --defaults-file="$2" --wsrep-recover >"$3" 2>&1`, "recover", program, s.file(), log}})
	if err != nil {
		return none, err
	}
	text, err := os.ReadFile(log)
	if err != nil {
		return none, err
	}
	p := none
	for line := range strings.Lines(string(text)) {
		if _, rest, ok := strings.Cut(line, "Recovered position:"); ok {
			p = parsePosition(rest)
		}
	}
	if exit != 0 && !p.known() {
		return none, &api.Error{Code: api.CodeUnavailable, Op: "find how far the data is", Object: "volume " + s.volume.ID, Message: fmt.Sprintf("the server ended with status %d", exit),
			Hint: "see mysql.log of the instance", LogTail: lastLines(string(text), 12)}
	}
	return p, nil
}

func lastLines(text string, n int) []string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[max(len(lines)-n, 0):]
}

// parseState reads grastate.dat.
func parseState(text string) position {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, ":"); ok {
			fields[strings.TrimSpace(k)] = strings.TrimSpace(v)
		}
	}
	return parsePosition(fields["uuid"] + ":" + fields["seqno"])
}

// beginArgs are those of the method "begin".
type beginArgs struct {
	Fresh bool `json:"fresh"` // there is no data anywhere: make some
}

// begin starts a new cluster with the data of this node. The manager half has
// seen that there is no other.
func (s *server) begin(ctx context.Context, a beginArgs) error {
	if st := s.observe(ctx); st.Primary {
		return nil // it is in one already, perhaps by an earlier call
	}
	fresh := s.fresh()
	if fresh && !a.Fresh {
		return api.Conflictf("instance %s has no data to begin with", s.m.Address())
	}
	quick, cancel := context.WithTimeout(ctx, 2*time.Second)
	err := s.stop(quick)
	cancel()
	if err != nil {
		return err
	}
	if fresh {
		if err := s.create(ctx); err != nil {
			return err
		}
	} else if err := s.adopt(ctx); err != nil {
		return err
	}
	_, revision, err := s.configure(ctx)
	if err != nil {
		return err
	}
	if err := s.write(s.mark("bootstrap"), nil, 0o644); err != nil {
		return err
	}
	err = s.start(ctx, revision)
	if err != nil {
		err = errors.Join(err, removed(s.mark("bootstrap")))
	}
	return err
}

func removed(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// create makes an empty database. It appears whole or not at all.
func (s *server) create(ctx context.Context) error {
	program, err := s.m.Program("mariadb-install-db", "mariadb-server")
	if err != nil {
		return err
	}
	made := s.data() + ".new"
	if err := errors.Join(os.RemoveAll(made), s.clearEmpty()); err != nil {
		return err
	}
	if err := os.Mkdir(made, 0o700); err != nil {
		return err
	}
	if err := s.give(made); err != nil {
		return err
	}
	statements := filepath.Join(s.etc(), "begin.sql")
	if err := s.write(statements, []byte(s.ownAccount()), 0o600); err != nil {
		return err
	}
	defer func() { _ = os.Remove(statements) }()
	exit, err := s.m.Supervisor().Run(ctx, services.Process{Name: "create", User: true, Log: "mysql.log", Dir: s.volume.Path,
		Argv: []string{program, "--no-defaults", "--datadir=" + made, "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve", "--extra-file=" + statements}})
	if err == nil && exit != 0 {
		err = &api.Error{Code: api.CodeUnavailable, Op: "create", Object: "the database", Message: fmt.Sprintf("mariadb-install-db ended with status %d", exit), Hint: "see mysql.log of the instance; is the volume full?"}
	}
	if err != nil {
		return err
	}
	return os.Rename(made, s.data())
}

// clearEmpty takes away what a server leaves that was started without data.
func (s *server) clearEmpty() error {
	if !s.fresh() {
		return api.Conflictf("volume %s has data", s.volume.ID)
	}
	return os.RemoveAll(s.data())
}

// ownAccount sets the account by which we reach the server. The hash has no
// character that would need quoting.
func (s *server) ownAccount() string {
	hash := passwordHash(s.c.Secrets[secretRoot])
	return "FLUSH PRIVILEGES;\nDELETE FROM mysql.global_priv WHERE User='' OR User='root' AND Host<>'localhost';\nFLUSH PRIVILEGES;\n" +
		"CREATE USER IF NOT EXISTS root@localhost IDENTIFIED BY PASSWORD '" + hash + "';\nALTER USER root@localhost IDENTIFIED BY PASSWORD '" + hash + "';\n" +
		"GRANT ALL PRIVILEGES ON *.* TO root@localhost WITH GRANT OPTION;\n"
}

// adopt gives data that came from elsewhere our own account.
func (s *server) adopt(ctx context.Context) error {
	mark := filepath.Join(s.volume.Path, adoptFile)
	if _, err := os.Stat(mark); err != nil {
		return nil //nolint:nilerr // it is ours
	}
	program, err := s.m.Program(daemon, "mariadb-server")
	if err != nil {
		return err
	}
	statements := filepath.Join(s.etc(), "begin.sql")
	if err := s.write(statements, []byte(s.ownAccount()), 0o600); err != nil {
		return err
	}
	defer func() { _ = os.Remove(statements) }()
	exit, err := s.m.Supervisor().Run(ctx, services.Process{Name: "adopt", User: true, Log: "mysql.log", Dir: s.volume.Path,
		Argv: []string{"/bin/sh", "-c", `exec "$1" --no-defaults --datadir="$2" --bootstrap <"$3"`, "adopt", program, s.data(), statements}})
	if err == nil && exit != 0 {
		err = &api.Error{Code: api.CodeUnavailable, Op: "adopt", Object: "volume " + s.volume.ID, Message: fmt.Sprintf("the server ended with status %d", exit), Hint: "see mysql.log of the instance"}
	}
	if err != nil {
		return err
	}
	return removed(mark)
}

// promote makes this node, which runs without quorum, the whole of the group.
// The manager half has seen that nobody else goes on.
func (s *server) promote(ctx context.Context) error {
	_, err := s.open().ExecContext(ctx, "SET GLOBAL wsrep_provider_options = 'pc.bootstrap=YES'")
	if serverError(err) == errReadOnly { // newer ones have a variable for each option
		_, err = s.open().ExecContext(ctx, "SET GLOBAL wsrep_provider_pc_bootstrap = ON")
	}
	return explain("give quorum to", "node "+s.m.Address(), err)
}

// remembered is what the volume knows of the others.
func (s *server) remembered() membership {
	var m membership
	b, err := os.ReadFile(filepath.Join(s.volume.Path, membershipFile))
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		return membership{}
	}
	return m
}

// remember writes the membership on the volume.
func (s *server) remember(m membership) error {
	if now := s.remembered(); now.Generation > m.Generation {
		return api.Conflictf("volume %s knows of generation %d already", s.volume.ID, now.Generation)
	}
	slices.Sort(m.Holders)
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	path := filepath.Join(s.volume.Path, membershipFile)
	if err := writeFile(path+".new", b, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
