package director

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
	"time"

	"nutshell/roles/api"
	"nutshell/roles/internal/httpapi"
	"nutshell/roles/internal/store"
)

const (
	reportHistory = 30              // states of the application and the service
	reportLog     = 200             // lines of the manager's log
	reportPatient = 5 * time.Second // for that log
	diagnosedLog  = 1 << 20         // bytes of the director's own
	diagnosedOps  = 50              // operations, of them all and of those that failed
	longestLog    = 256 << 10       // bytes of the manager's
)

// reported is the file that tells of one operation. Nothing in it is secret:
// it is what its asker may see by other routes.
type reported struct {
	Taken       time.Time        `json:"taken"`
	Version     api.Version      `json:"version"`
	Operation   api.Operation    `json:"operation"`
	Parts       []api.Operation  `json:"parts"`
	Application *api.Application `json:"application,omitempty"`
	Service     *api.Service     `json:"service,omitempty"`
	Instances   []api.Instance   `json:"instances"`
	History     []api.Change     `json:"history"`
	Log         []string         `json:"log"` // of the manager, newest last
	LogProblem  string           `json:"log_problem,omitempty"`
}

func (d *Director) operationReport(ctx context.Context, in *OperationPath) (*httpapi.Stream, error) {
	o, err := d.operation(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	r := reported{Taken: d.c.Now().UTC(), Operation: o.Operation, Parts: []api.Operation{}, Instances: []api.Instance{}, History: []api.Change{}, Log: []string{}}
	if r.Version, err = d.softwareVersion(ctx, nil); err != nil {
		return nil, err
	}
	parts, err := d.store.Operations(ctx, store.Filter{User: seer(ctx), Parent: o.ID, Limit: 1000})
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		r.Parts = append(r.Parts, p.Operation)
	}
	if err := d.reportThings(ctx, &r); err != nil {
		return nil, err
	}
	return jsonFile("operation-"+o.ID+".json", r)
}

// reportThings adds what the operation was about, unless that is gone.
func (d *Director) reportThings(ctx context.Context, r *reported) error {
	a, err := d.store.ApplicationByID(ctx, r.Operation.Application)
	if api.CodeOf(err) == api.CodeNotFound {
		r.LogProblem = "the application is gone"
		return nil
	}
	if err != nil {
		return err
	}
	shown := d.shown(a)
	r.Application = &shown
	if r.Operation.Service != 0 {
		if s, err := d.store.ServiceByID(ctx, a.ID, r.Operation.Service); err == nil {
			r.Service = &s.Service
		}
	}
	rows, err := d.store.ServiceInstances(ctx, a.ID, r.Operation.Service)
	if err != nil {
		return err
	}
	for _, i := range rows {
		r.Instances = append(r.Instances, i.Instance)
	}
	history, err := d.store.History(ctx, a.ID, r.Operation.Service)
	if err != nil {
		return err
	}
	r.History = history[max(0, len(history)-reportHistory):]
	if r.Log, err = d.managerLog(ctx, a, r.Operation.Service); err != nil {
		r.Log, r.LogProblem = []string{}, err.Error()
	}
	return nil
}

// managerLog is the end of a manager's log, if it answers soon.
func (d *Director) managerLog(ctx context.Context, a store.Application, service int64) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, reportPatient)
	defer cancel()
	q := url.Values{}
	if service != 0 {
		q.Set("service", strconv.FormatInt(service, 10))
	}
	s, err := d.copyLog(ctx, a, "/v1/log"+LogQuery{Tail: reportLog}.encode(q))
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Read.Close() }()
	b, err := io.ReadAll(io.LimitReader(s.Read, longestLog))
	lines := []string{}
	for line := range bytes.Lines(b) {
		lines = append(lines, string(bytes.TrimRight(line, "\n")))
	}
	return lines, err
}

func jsonFile(name string, v any) (*httpapi.Stream, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return &httpapi.Stream{Type: "application/json", Filename: name, Size: int64(b.Len()), Read: text(b.String())}, nil
}

// diagnosed is the summary of an installation.
type diagnosed struct {
	Taken        time.Time           `json:"taken"`
	Version      api.Version         `json:"version"`
	System       string              `json:"system"`
	CPUs         int                 `json:"cpus"`
	MemoryBytes  uint64              `json:"memory_bytes"` // from the system, of this process
	Goroutines   int                 `json:"goroutines"`
	Database     int64               `json:"database_bytes"`
	Settings     []api.SystemSetting `json:"settings"` // secrets are masked
	Clouds       []api.Cloud         `json:"clouds"`
	Users        int                 `json:"users"`
	Applications map[string]int      `json:"applications"` // by state
	Services     map[string]int      `json:"services"`     // by kind and state
	Instances    map[string]int      `json:"instances"`    // by cloud and state
	Volumes      map[string]int      `json:"volumes"`      // by cloud and state
	Bin          map[string]int      `json:"bin"`          // by kind
	Recent       []api.Operation     `json:"recent"`
	Failed       []api.Operation     `json:"failed"`
}

// diagnostics is a zip of texts in which no secret is: the configuration has
// them masked, and logs never have any.
func (d *Director) diagnostics(ctx context.Context, _ *struct{}) (*httpapi.Stream, error) {
	sum, err := d.diagnose(ctx)
	if err != nil {
		return nil, err
	}
	whole, err := json.MarshalIndent(sum, "", "  ")
	if err != nil {
		return nil, err
	}
	var b, stacks bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&stacks, 1); err != nil {
		return nil, err
	}
	log, err := tailOf(filepath.Join(d.c.Dir, "log", "director.log"), diagnosedLog)
	if err != nil {
		log = []byte(err.Error() + "\n")
	}
	z := zip.NewWriter(&b)
	for _, f := range []struct {
		name string
		data []byte
	}{{"report.json", whole}, {"director.log", log}, {"goroutines.txt", stacks.Bytes()}} {
		w, err := z.CreateHeader(&zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: d.c.Now()})
		if err == nil {
			_, err = w.Write(f.data)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	name := "nutshell-" + d.installation + "-" + d.c.Now().UTC().Format("20060102-150405") + ".zip"
	return &httpapi.Stream{Type: "application/zip", Filename: name, Size: int64(b.Len()), Read: text(b.String())}, nil
}

func (d *Director) diagnose(ctx context.Context) (diagnosed, error) {
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	r := diagnosed{Taken: d.c.Now().UTC(), System: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(), MemoryBytes: memory.Sys, Goroutines: runtime.NumGoroutine(),
		Applications: map[string]int{}, Services: map[string]int{}, Instances: map[string]int{}, Volumes: map[string]int{}, Bin: map[string]int{}, Recent: []api.Operation{}, Failed: []api.Operation{}}
	if info, err := os.Stat(filepath.Join(d.c.Dir, "nutshell.db")); err == nil {
		r.Database = info.Size()
	}
	var err, all error
	note := func(err error) { all = errors.Join(all, err) }
	r.Version, err = d.softwareVersion(ctx, nil)
	note(err)
	r.Settings, err = d.settings(ctx, nil)
	note(err)
	r.Clouds, err = d.listClouds(ctx, nil)
	note(err)
	users, err := d.store.Users(ctx)
	note(err)
	r.Users = len(users)
	apps, err := d.store.Applications(ctx, 0)
	note(err)
	for _, a := range apps {
		r.Applications[string(a.State)]++
	}
	services, err := d.store.Services(ctx, store.Selection{})
	note(err)
	for _, s := range services {
		r.Services[s.Kind+" "+string(s.State)]++
	}
	instances, err := d.store.Instances(ctx)
	note(err)
	for _, i := range instances {
		r.Instances[i.Cloud+" "+string(i.State)]++
	}
	volumes, err := d.store.Volumes(ctx)
	note(err)
	for _, v := range volumes {
		r.Volumes[v.Cloud+" "+string(v.State)]++
	}
	waiting, err := d.store.Bin(ctx, 0)
	note(err)
	for _, b := range waiting {
		r.Bin[b.Kind]++
	}
	r.Recent, err = d.lastOperations(ctx, store.Filter{Limit: diagnosedOps})
	note(err)
	r.Failed, err = d.lastOperations(ctx, store.Filter{State: api.OperationFailed, Limit: diagnosedOps})
	note(err)
	return r, all
}

// lastOperations leaves requests out: users' own words are not needed here.
func (d *Director) lastOperations(ctx context.Context, f store.Filter) ([]api.Operation, error) {
	rows, err := d.store.Operations(ctx, f)
	list := []api.Operation{}
	for _, o := range rows {
		o.Request = nil
		list = append(list, o.Operation)
	}
	return list, err
}

// tailOf is the end of a file, from the beginning of a line on.
func tailOf(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no log at %s: the director writes it somewhere else", path)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	from := max(0, info.Size()-most)
	b := make([]byte, info.Size()-from)
	n, err := f.ReadAt(b, from)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	b = b[:n]
	if i := bytes.IndexByte(b, '\n'); from > 0 && i >= 0 {
		b = b[i+1:]
	}
	return b, nil
}
