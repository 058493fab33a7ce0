// Package mysql is the service kind that keeps databases: MariaDB nodes joined
// by Galera, and HAProxy nodes before them. The manager half alone decides who
// begins a cluster; an agent can only join one, save a node that is told to be
// the only one. Dumps, backups and restores are in files of their own.
package mysql

import (
	"embed"
	"encoding/json"

	"nutshell/roles/api"
	"nutshell/services"
)

//go:embed my.cnf.tmpl haproxy.cfg.tmpl start.sh
var files embed.FS

// The parts.
const (
	database = "mysql"
	balancer = "glb"
)

// The ports, as in the ConPaaS manual.
const (
	sqlPort    = 3306 // clients
	readPort   = 3307 // clients that only read, where the service splits
	oldPort    = 8010 // clients of a balancer, as the manual has it
	sstPort    = 4444 // copies for nodes that join
	groupPort  = 4567 // replication
	istPort    = 4568 // changes that a node missed
	healthPort = 9200 // tells balancers who is fit
	peerPort   = 9201 // balancers tell each other who is the writer
)

// Secrets of a service. The user's own is "password".
const (
	secretRoot     = "root"
	secretSST      = "sst"
	secretHealth   = "health"
	secretCA       = "ca"
	secretPassword = "password"
)

const maxNodes = 9

// Kind describes the service.
func Kind() services.Kind {
	return services.Kind{
		Name: "mysql", Title: "MySQL", Summary: "Keeps databases in MariaDB, on one node or on several that hold the same data.",
		Parts: []services.Part{
			{Name: database, Title: "Database node", Summary: "holds all data and answers SQL", Default: 1, Min: 1, Max: maxNodes,
				Ports: []api.Port{{Number: sqlPort, Use: "SQL", Public: true}, {Number: sstPort, Use: "copies for nodes that join"}, {Number: groupPort, Use: "replication"},
					{Number: istPort, Use: "changes that a node missed"}, {Number: healthPort, Use: "health, for balancers"}},
				Volume: &services.VolumeRule{Name: "data", Title: "Databases", Bytes: volumeBytes}},
			{Name: balancer, Title: "Balancer", Summary: "one address for clients; sends them to nodes that are fit", Default: 0, Min: 0, Max: 3,
				Ports: []api.Port{{Number: sqlPort, Use: "SQL", Public: true}, {Number: readPort, Use: "SQL that only reads, where routing is read_write_split", Public: true},
					{Number: oldPort, Use: "SQL, as ConPaaS had it", Public: true}, {Number: groupPort, Use: "vote of the arbitrator"}, {Number: peerPort, Use: "balancers among themselves"}}, To: []string{database}},
		},
		Packages: []string{"mariadb-server", "mariadb-backup", "mariadb-client", "galera-4", "galera-arbitrator-4", "haproxy", "socat", "iproute2", "procps", "lsof", "openssl"},
		Settings: defaults(),
		Check:    checkSettings,
		Actions:  append(actions(), streamActions()...),
		Backups:  backupPolicy,
		Manager:  func(h services.Host) services.Manager { return newManager(h) },
		Agent:    func(m services.Machine) services.Agent { return newAgent(m) },
		Tools:    map[string]services.Tool{"health": serveHealth},
		Offers:   offers(),
		Secrets: []services.Secret{
			{Name: secretPassword, Title: "Password of user mysqldb", Help: "of the account that owns all databases", Own: true, Check: checkPassword},
			{Name: secretRoot, Title: "Password of root", Help: "used by Nutshell on the nodes themselves"},
			{Name: secretSST, Title: "Password of sst", Help: "used by nodes that copy the data to others"},
			{Name: secretHealth, Title: "Password of health", Help: "used to look whether a node is fit"},
			{Name: secretCA, Title: "Seed of the service's certificates", Help: "from which nodes make their certificates"},
		},
	}
}

func volumeBytes(raw json.RawMessage) int64 {
	s, err := parseSettings(raw)
	if err != nil {
		return services.Bytes(defaults().VolumeSize)
	}
	return services.Bytes(s.VolumeSize)
}

func offers() []api.Offer {
	return []api.Offer{
		{Name: "host", Help: "address of a balancer, or of the node that takes writes"},
		{Name: "ip", Help: "the same, as ConPaaS named it"},
		{Name: "port", Help: "port of SQL"},
		{Name: "user", Help: "account that owns all databases"},
		{Name: "password", Help: "its password", Secret: true},
		{Name: "database", Help: "database of the setting database"},
		{Name: "url", Help: "all of it as mysql://user:password@host:port/database", Secret: true},
		{Name: "read_host", Help: "address for clients that only read; the same as host unless routing is read_write_split"},
		{Name: "read_port", Help: "port for clients that only read"},
	}
}
