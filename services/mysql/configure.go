package mysql

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
)

// serverData is what my.cnf.tmpl gets.
type serverData struct {
	Data, Tmp, Socket, Run, Address, CA, Cert, Key, SlowLog string
	Provider, Cluster, Members, Name, SSTPassword, Donors   string
	ProviderOptions, Domain                                 string
	Port, SSTPort, OpenFiles                                int
	BufferPool, RedoLog, Binlog                             int64
	S                                                       settings
	Variables                                               []string
}

// configure writes the configuration. changed says that what a running server
// can take over did; revision is another when the server must be started again.
func (s *server) configure(ctx context.Context) (changed bool, revision string, err error) {
	d, err := s.serverData()
	if err != nil {
		return false, "", err
	}
	text, err := s.render(d)
	if err != nil {
		return false, "", err
	}
	fixed := d // without what running servers take over
	fixed.Members, fixed.Donors, fixed.S = "", "", settings{CharacterSet: d.S.CharacterSet}
	still, err := s.render(fixed)
	if err != nil {
		return false, "", err
	}
	sum := sha256.Sum256(still)
	revision = hex.EncodeToString(sum[:8])
	if now, err := os.ReadFile(s.file()); err == nil && bytes.Equal(now, text) {
		return true, revision, nil // adjusting costs little, and an agent may have died before it
	}
	if err := s.check(ctx, d); err != nil {
		return false, "", err
	}
	return true, revision, s.write(s.file(), text, 0o600)
}

func (s *server) render(d serverData) ([]byte, error) {
	var b bytes.Buffer
	if err := s.templates.ExecuteTemplate(&b, "my.cnf.tmpl", d); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func (s *server) serverData() (serverData, error) {
	provider, err := findProvider()
	if err != nil {
		return serverData{}, err
	}
	c := s.c
	etc := func(name string) string { return filepath.Join(s.etc(), name) }
	size := max(s.volume.Bytes, services.Bytes(c.Settings.VolumeSize))
	d := serverData{Data: s.data(), Tmp: s.tmp(), Socket: s.socket(), Run: s.run, Address: s.m.Address(), CA: etc("ca.pem"), Cert: etc("cert.pem"), Key: etc("key.pem"), SlowLog: s.slowLog(),
		Provider: provider, Cluster: c.Service, Members: groupAddress(c.Members), Name: s.m.Address(), SSTPassword: c.Secrets[secretSST], Donors: strings.Join(c.Node.Donors, ",") + ",",
		Domain: domain(s.m.Address()), Port: sqlPort, SSTPort: sstPort, OpenFiles: 16384, BufferPool: pool(s.memory), RedoLog: within(size/40, 16<<20, 512<<20),
		Binlog: within(size/64, 8<<20, 256<<20), S: c.Settings}
	secure := options("socket.ssl=YES", "socket.ssl_key="+d.Key, "socket.ssl_cert="+d.Cert, "socket.ssl_ca="+d.CA)
	d.ProviderOptions = options(fmt.Sprintf("gmcast.listen_addr=ssl://%s:%d", s.m.Address(), groupPort), fmt.Sprintf("ist.recv_addr=%s:%d", s.m.Address(), istPort), secure,
		fmt.Sprintf("gcache.size=%d", within(size/32, 16<<20, 1<<30)), groupTimes,
		"pc.recovery=FALSE") // it would begin a cluster of what was together last; that is the manager's to decide
	for _, line := range c.Settings.Variables {
		name, value, err := variable(line)
		if err != nil {
			return d, err
		}
		d.Variables = append(d.Variables, name+" = "+value)
	}
	slices.Sort(d.Variables)
	return d, nil
}

// groupTimes let a group go on without a dead node after three seconds; all of
// its members must have the same.
const groupTimes = "evs.keepalive_period=PT0.5S;evs.inactive_check_period=PT0.5S;evs.suspect_timeout=PT3S;evs.inactive_timeout=PT8S;evs.install_timeout=PT8S;gmcast.peer_timeout=PT3S;pc.announce_timeout=PT3S;pc.wait_prim_timeout=PT60S"

// pool is how much memory InnoDB keeps pages in; the rest of the server takes
// about 150 MB.
func pool(memory int64) int64 {
	if memory <= 0 {
		return 128 << 20
	}
	return within((memory-(150<<20))*7/10, 24<<20, 1<<40) >> 20 << 20
}

func within(n, least, most int64) int64 { return min(max(n, least), most) }

func findProvider() (string, error) {
	for _, path := range []string{"/usr/lib/galera/libgalera_smm.so", "/usr/lib/libgalera_smm.so"} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", &api.Error{Code: api.CodeUnavailable, Op: "start", Object: "libgalera_smm.so", Message: "the library is not installed on this machine", Hint: "install Debian's package galera-4"}
}

// check asks the server's program whether it takes the configuration. What
// runs goes on meanwhile, and afterwards, too, when it does not.
func (s *server) check(ctx context.Context, d serverData) error {
	if len(d.Variables) == 0 {
		return nil // the rest has been tried
	}
	program, err := s.m.Program(daemon, "mariadb-server")
	if err != nil {
		return err
	}
	text := "[mariadbd]\ndatadir = " + d.Tmp + "\n" + strings.Join(d.Variables, "\n") + "\n"
	path := filepath.Join(s.etc(), "check.cnf")
	if err := s.write(path, []byte(text), 0o600); err != nil {
		return err
	}
	defer func() { _ = os.Remove(path) }()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "--defaults-file="+path, "--help", "--verbose", "--user=nobody")
	var told bytes.Buffer
	cmd.Stderr = &told
	err = cmd.Run()
	if bad := complaint(told.String()); err != nil || bad != "" {
		if bad == "" {
			bad = err.Error()
		}
		return &api.Error{Code: api.CodeInvalid, Op: "check", Object: "setting variables", Message: bad, Hint: "mend the variable; the database goes on as it was", Fields: []string{"variables"}}
	}
	return nil
}

// complaint finds what a server says of values that it does not take, or takes
// otherwise than written.
func complaint(text string) string {
	for line := range strings.Lines(text) {
		low := strings.ToLower(line)
		for _, word := range []string{"[error]", "unknown suffix", "unknown variable", "adjusted to", "error while setting value", "invalid value"} {
			if i := strings.Index(low, word); i >= 0 && !strings.Contains(low, "open_files_limit") && !strings.Contains(low, "aborting") {
				if _, rest, ok := strings.Cut(line, "] "); ok {
					line = rest
				}
				return strings.TrimSpace(line)
			}
		}
	}
	return ""
}

// adjust tells a running server what it can take over.
func (s *server) adjust(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	db, c := s.open(), s.c.Settings
	secure := "OFF"
	if c.TLS == "required" {
		secure = "ON"
	}
	var failed error
	for _, v := range []struct {
		name  string
		value any
	}{{"max_connections", c.MaxConnections}, {"long_query_time", c.SlowSeconds}, {"wsrep_sync_wait", c.SyncWait}, {"require_secure_transport", secure},
		{"wsrep_sst_donor", strings.Join(s.c.Node.Donors, ",") + ","}} {
		if _, err := db.ExecContext(ctx, "SET GLOBAL "+v.name+" = ?", v.value); err != nil { // names are ours
			failed = errors.Join(failed, fmt.Errorf("%s: %w", v.name, err))
			break
		}
	}
	if failed == nil {
		_, failed = db.ExecContext(ctx, "FLUSH LOCAL SSL") // its certificate may be another
	}
	if failed != nil { // it starts, or has stopped: then its file tells it
		s.log.Debug("settings not told to the running server", "error", failed)
	}
}
