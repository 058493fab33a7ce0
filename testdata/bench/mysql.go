package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"nutshell/roles/api"
)

// password of the database's user: the databases live for this run only.
const password = "bench-Pa55word"

// mysql: what the load balancer costs, and joining a node while clients work.
func (b *bench) mysql(ctx context.Context) ([]row, error) {
	if _, err := exec.LookPath("sysbench"); err != nil {
		return nil, fmt.Errorf("apt-get install sysbench: %w", err)
	}
	var rows []row
	err := b.api.withApplication(ctx, "bench-mysql", func() error {
		s, began, err := b.addDatabase(ctx, "bench-mysql")
		if err != nil {
			return err
		}
		rows = append(rows, row{what: "start a mysql service, to its first answer", ours: time.Since(began).Seconds(), unit: "s", limit: 15, absolute: true})
		if err := b.grow(ctx, s, map[string]int{"glb": 1}); err != nil {
			return err
		}
		through, direct, err := b.databaseAddresses(ctx, s)
		if err != nil {
			return err
		}
		if _, err := b.sysbench(ctx, direct, "prepare"); err != nil {
			return err
		}
		var ours, peers []float64
		for range 3 {
			for _, side := range []struct {
				at   string
				into *[]float64
			}{{through, &ours}, {direct, &peers}} {
				rate, err := b.sysbench(ctx, side.at, "run")
				if err != nil {
					return err
				}
				*side.into = append(*side.into, rate)
			}
		}
		rows = append(rows, row{what: "sysbench oltp_read_write through glb", ours: median(ours), peer: median(peers), unit: "/s", note: "straight to the node", limit: 0.9, atLeast: true})
		joined, err := b.joinUnderLoad(ctx, s, through)
		rows = append(rows, joined...)
		return err
	})
	return rows, err
}

// addDatabase starts a mysql service of one node. The time is when its start
// was asked for.
func (b *bench) addDatabase(ctx context.Context, app string) (api.Service, time.Time, error) {
	var s api.Service
	if err := b.api.do(ctx, http.MethodPost, appPath(app)+"/services", api.CreateService{Kind: "mysql"}, &s); err != nil {
		return s, time.Time{}, err
	}
	// The first start builds the image and is not counted.
	if err := b.api.operate(ctx, http.MethodPost, servicePath(s)+"/start", api.Start{}); err != nil {
		return s, time.Time{}, err
	}
	if err := b.api.operate(ctx, http.MethodPost, servicePath(s)+"/stop", nil); err != nil {
		return s, time.Time{}, err
	}
	if err := b.api.operate(ctx, http.MethodPut, servicePath(s)+"/secrets/password", api.SetSecret{Value: password}); err != nil {
		return s, time.Time{}, err
	}
	began := time.Now()
	if err := b.api.operate(ctx, http.MethodPost, servicePath(s)+"/start", api.Start{}); err != nil {
		return s, began, err
	}
	at, err := b.offers(ctx, s)
	if err != nil {
		return s, began, err
	}
	return s, began, until(ctx, time.Minute, "the database answers", func() bool {
		return b.query(ctx, at["host"]+":"+at["port"], "SELECT 1") == nil
	})
}

func (b *bench) offers(ctx context.Context, s api.Service) (map[string]string, error) {
	var all api.Bindings
	err := b.api.do(ctx, http.MethodGet, servicePath(s)+"/bindings", nil, &all)
	return all.Offers.Values, err
}

func (b *bench) grow(ctx context.Context, s api.Service, to map[string]int) error {
	return b.api.operate(ctx, http.MethodPost, servicePath(s)+"/scale", api.Scale{Set: to})
}

// databaseAddresses are the load balancer's and the writer's own.
func (b *bench) databaseAddresses(ctx context.Context, s api.Service) (through, direct string, err error) {
	offered, err := b.offers(ctx, s)
	if err != nil {
		return "", "", err
	}
	var list []api.Instance
	if err := b.api.do(ctx, http.MethodGet, servicePath(s)+"/instances", nil, &list); err != nil {
		return "", "", err
	}
	for _, i := range list {
		if len(i.Parts) == 1 && i.Parts[0] == "mysql" {
			direct = i.Address + ":" + strconv.Itoa(api.RealPort(i.Address, 3306))
		}
	}
	through = offered["host"] + ":" + offered["port"]
	if direct == "" || through == direct {
		return "", "", errors.New("clients do not go through the load balancer")
	}
	return through, direct, nil
}

// query runs one statement by the stock client.
func (b *bench) query(ctx context.Context, at, statement string) error {
	host, port, _ := strings.Cut(at, ":")
	cmd := exec.CommandContext(ctx, "mysql", "--no-defaults", "--connect-timeout=3", "--host="+host, "--port="+port, "--user=mysqldb", "--execute="+statement, "app")
	cmd.Env = append(cmd.Environ(), "MYSQL_PWD="+password)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, lastLines(string(out), 3))
	}
	return nil
}

var perSecond = regexp.MustCompile(`queries:\s+[0-9]+\s+\(([0-9.]+) per sec\.\)`)

// sysbench answers queries per second, of run.
func (b *bench) sysbench(ctx context.Context, at, command string) (float64, error) {
	host, port, _ := strings.Cut(at, ":")
	out, err := exec.CommandContext(ctx, "sysbench", "oltp_read_write", "--db-driver=mysql", "--mysql-host="+host, "--mysql-port="+port, "--mysql-user=mysqldb",
		"--mysql-password="+password, "--mysql-db=app", "--tables=4", "--table-size=25000", "--threads=8", fmt.Sprintf("--time=%.0f", b.duration.Seconds()), command).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("sysbench %s: %w: %s", command, err, lastLines(string(out), 5))
	}
	if command != "run" {
		return 0, nil
	}
	m := perSecond.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("sysbench: no rate in its output: %s", lastLines(string(out), 5))
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

// joinUnderLoad grows the cluster to three nodes while a client writes.
func (b *bench) joinUnderLoad(ctx context.Context, s api.Service, through string) ([]row, error) {
	if err := b.query(ctx, through, "CREATE TABLE IF NOT EXISTS tick (id INT AUTO_INCREMENT PRIMARY KEY)"); err != nil {
		return nil, err
	}
	stop := make(chan struct{})
	type count struct{ done, failed int }
	counted := make(chan count)
	go func() {
		var c count
		for {
			select {
			case <-stop:
				counted <- c
				return
			default:
			}
			if c.done++; b.query(ctx, through, "INSERT INTO tick () VALUES ()") != nil {
				c.failed++
			}
		}
	}()
	began := time.Now()
	err := b.grow(ctx, s, map[string]int{"mysql": 3})
	took := time.Since(began).Seconds()
	close(stop)
	c := <-counted
	if err == nil && c.done == 0 {
		err = errors.New("nothing was asked while the nodes joined")
	}
	return []row{
		{what: "two more nodes join", ours: took, unit: "s", limit: 60, absolute: true},
		{what: fmt.Sprintf("of %d writes meanwhile failed", c.done), ours: float64(c.failed), unit: "writes", absolute: true},
	}, err
}

// wordpress: one manifest to the front page, the images being there.
func (b *bench) wordpress(ctx context.Context) ([]row, error) {
	var t api.Template
	if err := b.api.do(ctx, http.MethodGet, "/templates/wordpress", nil, &t); err != nil {
		return nil, err
	}
	var took float64
	for range 2 { // the first builds images and is not counted
		began := time.Now()
		if err := b.api.operate(ctx, http.MethodPost, "/manifests?application=bench-wordpress", strings.NewReader(t.Manifest)); err != nil {
			return nil, err
		}
		var list []api.Service
		if err := b.api.do(ctx, http.MethodGet, appPath("bench-wordpress")+"/services", nil, &list); err != nil {
			return nil, err
		}
		for _, s := range list {
			if s.Kind != "php" || len(s.URLs) == 0 {
				continue
			}
			err := until(ctx, time.Minute, "WordPress shows its first page", func() bool { return showsWordPress(ctx, s.URLs[0]) })
			if err != nil {
				return nil, err
			}
			took = time.Since(began).Seconds()
		}
		if err := b.api.operate(ctx, http.MethodDelete, appPath("bench-wordpress"), nil); err != nil {
			return nil, err
		}
	}
	return []row{{what: "WordPress, from one manifest to its first page", ours: took, unit: "s", limit: 60, absolute: true}}, nil
}

func showsWordPress(ctx context.Context, url string) bool {
	out, err := exec.CommandContext(ctx, "curl", "-sSL", "--max-time", "5", url).Output()
	return err == nil && strings.Contains(string(out), "WordPress")
}
