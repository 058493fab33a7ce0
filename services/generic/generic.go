// Package generic is the service kind that runs any program packaged with up
// to five scripts: init.sh, notify.sh, run.sh, interrupt.sh and cleanup.sh.
// It keeps the ConPaaS manual's promises about when each is called. Scripts
// run as the account of the instance's agent: root of the instance where it
// is a container, as in ConPaaS, and the user where it is a process.
package generic

import (
	_ "embed"
	"slices"

	"nutshell/roles/api"
	"nutshell/services"
)

// The parts. The distinction is informational: all run the same code.
const (
	master = "master"
	node   = "node"
)

// The scripts.
const (
	initScript      = "init.sh"
	notifyScript    = "notify.sh"
	runScript       = "run.sh"
	interruptScript = "interrupt.sh"
	cleanupScript   = "cleanup.sh"
)

var scripts = []string{initScript, notifyScript, runScript, interruptScript, cleanupScript}

//go:embed sample.sh
var sample string

// Kind describes the service.
func Kind() services.Kind {
	parameters := []api.Parameter{{Name: "parameters", Help: "passed on to the script, split at blanks as a shell does, quotes kept together"}}
	code := map[string]string{}
	for _, s := range scripts {
		code[s] = sample
	}
	return services.Kind{
		Name: "generic", Title: "Generic", Summary: "Runs any program, packaged with scripts that set it up, run it and stop it on every instance.",
		Parts: []services.Part{
			{Name: master, Title: "Master", Summary: "runs the program; the first instance, which stays until the service stops", Default: 1, Min: 1, Max: 1, Fixed: true},
			{Name: node, Title: "Node", Summary: "runs the program", Default: 0, Min: 0, Max: 63},
		},
		Packages: []string{"bash", "coreutils", "procps", "curl", "python3-minimal"},
		Actions: []api.Action{
			{Name: "run", Title: "Run", Summary: "Runs run.sh on every instance.", Params: parameters},
			{Name: "interrupt", Title: "Interrupt", Summary: "Runs interrupt.sh where scripts run, then ends what still runs; a second time kills everything.", Params: parameters},
			{Name: "cleanup", Title: "Clean up", Summary: "Runs cleanup.sh on every instance.", Params: parameters},
			{Name: "get_script_status", Title: "Show script status", Summary: "Shows for each instance which scripts run or have run.", Reads: true},
		},
		Code:        api.CodeRules{Accepts: true, Help: "an archive with init.sh, notify.sh, run.sh, interrupt.sh and cleanup.sh at its top; each may be missing"},
		DefaultCode: code,
		Volumes:     true,
		Manager:     func(h services.Host) services.Manager { return &manager{host: h} },
		Agent:       func(m services.Machine) services.Agent { return newAgent(m) },
	}
}

// plan keeps the master for ever; the newest nodes leave first.
func plan(have []api.Instance, want map[string]int, prefer []string) (services.Layout, error) {
	if want[node] < 0 || want[master] != 1 {
		return services.Layout{}, &api.Error{Code: api.CodeInvalid, Op: "plan", Object: "service generic",
			Message: "there is exactly one master, and the number of nodes is not negative", Fields: []string{node}}
	}
	var masters, others []api.Instance
	for _, i := range have {
		if slices.Contains(i.Parts, master) {
			masters = append(masters, i)
		} else {
			others = append(others, i)
		}
	}
	var l services.Layout
	stay, second := services.Keep(masters, 1, nil)
	l.Have, l.Leave = services.Keep(append(others, second...), want[node], prefer)
	for i := range l.Have {
		l.Have[i].Parts = []string{node}
	}
	if len(stay) == 0 { // the cloud has lost it: an instance that would leave takes over before another is started
		if i := slices.IndexFunc(l.Leave, func(i api.Instance) bool { return !slices.Contains(prefer, i.ID) }); i >= 0 {
			stay = []api.Instance{l.Leave[i]}
			l.Leave = slices.Delete(l.Leave, i, i+1)
		}
	}
	nodes := len(l.Have)
	for _, i := range stay {
		i.Parts = []string{master}
		l.Have = append([]api.Instance{i}, l.Have...)
	}
	if len(stay) == 0 {
		l.Launch = append(l.Launch, []string{master})
	}
	for range want[node] - nodes {
		l.Launch = append(l.Launch, []string{node})
	}
	return l, nil
}
