package mysql

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"nutshell/roles/api"
	"nutshell/services"
)

// Values of the setting routing.
const (
	singleWriter = "single_writer"
	split        = "read_write_split"
	spread       = "spread"
)

// settings are the service's settings as users set them.
type settings struct {
	VolumeSize     string   `json:"volume_size" title:"Size of volumes" help:"of each node's data; it can grow, but not shrink" type:"size"`
	Database       string   `json:"database" title:"Database" help:"made at the first start and offered to siblings; empty: none" max:"256"`
	Routing        string   `json:"routing" title:"Routing" help:"single_writer: one node takes all; read_write_split: port 3307 reads from any node; spread: all nodes take all, and conflicting writes fail" enum:"single_writer|read_write_split|spread"`
	SyncWait       int      `json:"sync_wait" title:"Reads that wait" help:"MariaDB's wsrep_sync_wait: 0 reads what a node has, 1 waits until it has all that was committed before, 7 writes wait, too" min:"0" max:"15"`
	MaxConnections int      `json:"max_connections" title:"Connections" help:"at a time to each node" min:"10" max:"10000"`
	SlowSeconds    int      `json:"slow_seconds" title:"Slow queries" help:"queries that take longer go to slow.log" min:"1" max:"3600" unit:"seconds"`
	TLS            string   `json:"tls" title:"TLS of clients" help:"offered: clients may use it; required: others are refused" enum:"offered|required"`
	CharacterSet   string   `json:"character_set" title:"Character set" help:"of new databases" enum:"utf8mb4|utf8mb3|latin1|ascii|binary" restart:"true"`
	BackupEvery    string   `json:"backup_every" title:"Backups" help:"how often one is taken by itself" enum:"off|1h|6h|12h|24h|168h"`
	BackupKeep     int      `json:"backup_keep" title:"Backups kept" help:"of those taken by themselves, the newest; those that were asked for stay" min:"1" max:"1000"`
	BackupLog      bool     `json:"backup_log" title:"Any moment" help:"keep what changes, too, each minute: then any moment since the oldest backup can be restored"`
	BackupVerify   bool     `json:"backup_verify" title:"Try backups" help:"restore each backup on trial, on a node, beside its data"`
	Variables      []string `json:"variables" title:"Server variables" help:"each as name=value; nodes are started again one after another" restart:"true"`
}

func defaults() *settings {
	return &settings{VolumeSize: "2G", Database: "app", Routing: singleWriter, SyncWait: 1, MaxConnections: 100, SlowSeconds: 5, TLS: "offered", CharacterSet: "utf8mb4", BackupEvery: "24h", BackupKeep: 7, BackupLog: true, BackupVerify: true, Variables: []string{}}
}

func parseSettings(raw json.RawMessage) (settings, error) {
	s := *defaults()
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &s); err != nil {
			return s, fmt.Errorf("mysql: settings: %w", err)
		}
	}
	return s, nil
}

const leastVolume = 512 << 20 // system tables, redo log, gcache and two days of small changes

func checkSettings(v any) error {
	s := v.(*settings) //nolint:forcetypeassert // Kind.Settings is of this type
	if services.Bytes(s.VolumeSize) < leastVolume {
		return invalid("volume_size", "%s is less than 512M, which an empty node needs", api.Shorten(s.VolumeSize))
	}
	if s.Database != "" {
		if err := checkDatabase(s.Database); err != nil {
			return invalid("database", "%v", err)
		}
	}
	seen := map[string]bool{}
	for _, line := range s.Variables {
		name, _, err := variable(line)
		if err != nil {
			return err
		}
		if seen[name] {
			return invalid("variables", "%s is set twice", name)
		}
		seen[name] = true
	}
	return nil
}

func invalid(field, format string, args ...any) error {
	return &api.Error{Code: api.CodeInvalid, Object: "setting " + field, Message: fmt.Sprintf(format, args...), Fields: []string{field}}
}

// allowed are the server variables that users may set. Those that could lose
// data, open files or break the cluster are not among them.
var allowed = map[string]bool{
	"connect_timeout": true, "default_time_zone": true, "div_precision_increment": true, "event_scheduler": true, "explicit_defaults_for_timestamp": true,
	"ft_min_word_len": true, "ft_max_word_len": true, "group_concat_max_len": true, "innodb_buffer_pool_size": true, "innodb_ft_min_token_size": true,
	"innodb_ft_max_token_size": true, "innodb_io_capacity": true, "innodb_io_capacity_max": true, "innodb_lock_wait_timeout": true, "innodb_log_file_size": true,
	"innodb_print_all_deadlocks": true, "innodb_strict_mode": true, "interactive_timeout": true, "join_buffer_size": true, "log_queries_not_using_indexes": true,
	"max_allowed_packet": true, "max_connect_errors": true, "max_heap_table_size": true, "max_statement_time": true, "max_user_connections": true,
	"net_read_timeout": true, "net_write_timeout": true, "optimizer_switch": true, "performance_schema": true, "read_buffer_size": true, "read_rnd_buffer_size": true,
	"sort_buffer_size": true, "sql_mode": true, "table_definition_cache": true, "table_open_cache": true, "thread_cache_size": true, "tmp_table_size": true,
	"transaction_isolation": true, "wait_timeout": true, "wsrep_slave_threads": true, "wsrep_retry_autocommit": true, "wsrep_max_ws_size": true,
}

var variableValue = regexp.MustCompile(`^[A-Za-z0-9_.,:+=/ -]{0,400}$`)

// variable splits a line of the setting variables.
func variable(line string) (name, value string, err error) {
	name, value, ok := strings.Cut(line, "=")
	name = strings.ReplaceAll(strings.ToLower(strings.TrimSpace(name)), "-", "_")
	value = strings.TrimSpace(value)
	switch {
	case !ok:
		return "", "", invalid("variables", "%s is not of the form name=value", api.Shorten(line))
	case !allowed[name]:
		return "", "", invalid("variables", "%s cannot be set here; these can: %s", api.Shorten(name), strings.Join(slices.Sorted(maps.Keys(allowed)), ", "))
	case !variableValue.MatchString(value):
		return "", "", invalid("variables", "the value of %s may have letters, digits, blanks and _.,:+=/- only", name)
	}
	return name, value, nil
}

// reserved databases and accounts belong to the server or to Nutshell.
var (
	reservedDatabases = []string{"mysql", "sys", "information_schema", "performance_schema", "lost+found"}
	reservedUsers     = []string{"root", "sst", "health", "mysqldb", "mysql", "mariadb.sys", "public"}
)

// checkDatabase refuses what cannot be the name of a user's database.
func checkDatabase(name string) error {
	if err := checkName(name, 64); err != nil {
		return err
	}
	if slices.Contains(reservedDatabases, strings.ToLower(name)) || strings.HasPrefix(name, "#") {
		return fmt.Errorf("the name %s is the server's own", name)
	}
	return nil
}

// checkUser refuses what cannot be the name of a user's account.
func checkUser(name string) error {
	if err := checkName(name, 80); err != nil {
		return err
	}
	if slices.Contains(reservedUsers, strings.ToLower(name)) {
		return fmt.Errorf("the account %s is Nutshell's or the server's own", name)
	}
	return nil
}

func checkName(name string, most int) error {
	switch {
	case name == "":
		return fmt.Errorf("a name is needed")
	case !utf8.ValidString(name):
		return fmt.Errorf("the name is not UTF-8")
	case utf8.RuneCountInString(name) > most:
		return fmt.Errorf("the name has more than %d characters", most)
	case strings.TrimSpace(name) != name:
		return fmt.Errorf("the name begins or ends with a blank")
	}
	for _, r := range name {
		if r < ' ' || r == 0x7f || r > 0xffff || r == '/' || r == '\\' {
			return fmt.Errorf("the name holds %q, which databases cannot have in names", r)
		}
	}
	return nil
}

// checkPassword refuses what clients cannot send.
func checkPassword(value string) error {
	bad := func(format string, args ...any) error {
		return &api.Error{Code: api.CodeInvalid, Object: "password", Message: fmt.Sprintf(format, args...), Fields: []string{"password"}}
	}
	switch {
	case utf8.RuneCountInString(value) < 8:
		return bad("it has fewer than 8 characters")
	case len(value) > 1000:
		return bad("it has more than 1000 bytes")
	case !utf8.ValidString(value) || strings.ContainsAny(value, "\x00\r\n"):
		return bad("it holds a line break or is not UTF-8")
	}
	return nil
}
