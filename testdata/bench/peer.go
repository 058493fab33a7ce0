package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// serveArg makes this program the process in a bare container.
const serveArg = "--serve-https"

//go:embed hand
var hand embed.FS

// serveHTTPS is what a manager does at the least: make a key and answer.
func serveHTTPS() int {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return 1
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return 1
	}
	s := &http.Server{Addr: ":443", ReadHeaderTimeout: time.Minute, Handler: http.NotFoundHandler(),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}}
	fmt.Fprintln(os.Stderr, s.ListenAndServeTLS("", ""))
	return 1
}

// The peers' own little network; nothing else uses it.
const (
	peerBridge  = "nsbench0"
	peerGateway = "10.213.77.1"
	peerAddress = "10.213.77.2"
)

// layersIn finds a kind's image in a data directory.
func layersIn(data fs.FS, dir, kind string) ([]string, error) {
	type layer struct{ Digest, Below, Name, Created string }
	found := map[string]layer{}
	var top layer
	names, err := fs.Glob(data, "images/layers/*/layer.json")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		b, err := fs.ReadFile(data, name)
		if err != nil {
			return nil, err
		}
		var l layer
		if err := json.Unmarshal(b, &l); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		found[l.Digest] = l
		if l.Name == kind && l.Created > top.Created {
			top = l
		}
	}
	if top.Digest == "" {
		return nil, fmt.Errorf("no image of %s in %s/images", kind, dir)
	}
	var dirs []string
	for l := top; ; l = found[l.Below] {
		dirs = append([]string{filepath.Join(dir, "images/layers", l.Digest, "rootfs")}, dirs...)
		if l.Below == "" {
			return dirs, nil
		}
	}
}

// container is a bare one: lxc-start, layers by overlay, one veth.
type container struct{ name, dir, config string }

// newContainer writes what lxc-start needs. extra are lines of its configuration.
func (b *bench) newContainer(name string, layers, init []string, extra ...string) (container, error) {
	c := container{name: name, dir: filepath.Join(b.dir, name)}
	c.config = filepath.Join(c.dir, "config")
	upper := filepath.Join(c.dir, "upper")
	if err := os.MkdirAll(upper, 0o755); err != nil {
		return c, err
	}
	lines := append([]string{
		"lxc.include = /usr/share/lxc/config/common.conf",
		"lxc.uts.name = " + name,
		"lxc.rootfs.path = overlay:" + strings.Join(layers, ":") + ":" + upper,
		"lxc.init.cmd = " + strings.Join(init, " "),
		"lxc.net.0.type = veth", "lxc.net.0.link = " + peerBridge, "lxc.net.0.flags = up",
		"lxc.net.0.ipv4.address = " + peerAddress + "/24", "lxc.net.0.ipv4.gateway = " + peerGateway,
	}, extra...)
	return c, os.WriteFile(c.config, []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}

func (c container) start(ctx context.Context) error {
	return command(ctx, "lxc-start", "-n", c.name, "-f", c.config, "-P", c.dir, "-o", filepath.Join(c.dir, "lxc.log"))
}

func (c container) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	err := command(ctx, "lxc-stop", "-k", "-n", c.name, "-P", c.dir)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return err
	}
	return os.RemoveAll(c.dir) // not running is fine here
}

func command(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// peerNetwork makes the peers' bridge; the function takes it away.
func peerNetwork(ctx context.Context) (func(), error) {
	drop := func() {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_ = command(undo, "ip", "link", "del", peerBridge) // not there is as good
	}
	drop()
	for _, args := range [][]string{
		{"link", "add", peerBridge, "type", "bridge"},
		{"addr", "add", peerGateway + "/24", "dev", peerBridge},
		{"link", "set", peerBridge, "up"},
	} {
		if err := command(ctx, "ip", args...); err != nil {
			drop()
			return nil, err
		}
	}
	return drop, nil
}

// bareContainer times one container on the base layer, from its clone to the
// first HTTPS answer.
func (b *bench) bareContainer(ctx context.Context) (took time.Duration, err error) {
	layers, err := b.layers("base")
	if err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	drop, err := peerNetwork(ctx)
	if err != nil {
		return 0, err
	}
	defer drop()
	began := time.Now()
	c, err := b.newContainer("bench-bare", layers, []string{"/usr/bin/nutshell", serveArg},
		"lxc.mount.entry = "+self+" usr/bin/nutshell none ro,bind 0 0")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.stop(ctx)) }()
	if err := c.start(ctx); err != nil {
		return 0, err
	}
	//nolint:gosec // a container that we have just made, and whose certificate nobody signed
	ask := &http.Client{Timeout: 100 * time.Millisecond, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	return took, until(ctx, 20*time.Second, "the container to answer", func() bool {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+peerAddress+"/", nil)
		if err != nil {
			return false
		}
		resp, err := ask.Do(req)
		if err != nil {
			return false
		}
		resp.Body.Close()
		took = time.Since(began)
		return true
	})
}

func until(ctx context.Context, limit time.Duration, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !ok() {
		if err := wait(ctx, 2*time.Millisecond); err != nil {
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
	}
	return nil
}

// handMade runs nginx and php-fpm as one would set them up by hand, with the
// settings of pool and the pages that fill puts into a directory, and returns
// its URL.
func (b *bench) handMade(ctx context.Context, pool string, fill func(dir string) error) (address string, stop func(), err error) {
	layers, err := b.layers("php")
	if err != nil {
		return "", nil, err
	}
	drop, err := peerNetwork(ctx)
	if err != nil {
		return "", nil, err
	}
	c, err := b.newContainer("bench-hand", layers, []string{"/bin/sh", "/srv/bench/start"})
	stop = func() {
		if err := c.stop(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
		drop()
	}
	if err == nil {
		err = writeHand(filepath.Join(c.dir, "upper/srv/bench"), pool, fill)
	}
	if err == nil {
		err = c.start(ctx)
	}
	if err == nil {
		address = "http://" + peerAddress + "/"
		err = until(ctx, 20*time.Second, "nginx and php-fpm", func() bool { return isPage(ctx, address) == nil })
	}
	if err != nil {
		stop()
		return "", nil, err
	}
	return address, stop, nil
}

func writeHand(dir, pool string, fill func(dir string) error) error {
	if err := os.MkdirAll(filepath.Join(dir, "www"), 0o755); err != nil {
		return err
	}
	for _, name := range []string{"nginx.conf", "start"} {
		text, err := hand.ReadFile("hand/" + name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return err
		}
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "fpm.conf"), []byte(handPool(pool)), 0o644), fill(filepath.Join(dir, "www")))
}

// runningPool is the configuration of the php-fpm that our Nutshell runs now.
// The process title names the file; that it lies below our data directory too
// tells ours from any other on this machine.
func runningPool(data string) (string, error) {
	titles, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return "", err
	}
	master := regexp.MustCompile(`^php-fpm: master process \((/.*)\)`)
	for _, t := range titles {
		title, err := os.ReadFile(t)
		if err != nil {
			continue // ended meanwhile
		}
		m := master.FindSubmatch(title)
		if m == nil {
			continue
		}
		files, err := filepath.Glob(filepath.Join(data, "clouds/*/*/upper", string(m[1])))
		if err != nil {
			return "", err
		}
		if len(files) > 0 {
			b, err := os.ReadFile(files[0])
			return string(b), err
		}
	}
	return "", errors.New("no php-fpm of our Nutshell runs here")
}

// handPool is a pool with the same settings at places of its own. Its sessions
// are files, as they are by hand: the store of ours is not there.
func handPool(pool string) string {
	var b strings.Builder
	for line := range strings.Lines(pool) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		switch {
		case strings.HasPrefix(key, ";"), key == "pm.status_listen", key == "pm.status_path", strings.Contains(key, "[redis."):
			continue
		case strings.HasSuffix(key, "[session.save_handler]"):
			line = key + " = files\n"
		case strings.HasSuffix(key, "[session.save_path]"):
			line = key + " = /tmp\n"
		case key == "user", key == "group", key == "listen.owner", key == "listen.group":
			line = key + " = www-data\n"
		case key == "listen":
			line = "listen = /run/bench-fpm.sock\n"
		case strings.HasPrefix(value, "/") && !strings.HasPrefix(key, "ping."):
			line = key + " = /tmp/" + filepath.Base(value) + "\n"
			if strings.Contains(key, "_dir]") {
				line = key + " = /tmp\n"
			}
		}
		b.WriteString(line)
	}
	return b.String()
}

// load runs wrk and returns pages per second. A page that fails, fails the measure.
func load(ctx context.Context, url string, d time.Duration) (float64, error) {
	out, err := exec.CommandContext(ctx, "wrk", "-t2", "-c32", "-d"+strconv.Itoa(int(d.Seconds()))+"s", url).Output()
	if err != nil {
		return 0, fmt.Errorf("wrk: %w (apt-get install wrk)", err)
	}
	return parseWrk(string(out))
}

func parseWrk(out string) (float64, error) {
	rate := 0.0
	for s := bufio.NewScanner(strings.NewReader(out)); s.Scan(); {
		line := strings.TrimSpace(s.Text())
		if strings.HasPrefix(line, "Non-2xx") || strings.HasPrefix(line, "Socket errors") {
			return 0, fmt.Errorf("wrk: %s", line)
		}
		if v, ok := strings.CutPrefix(line, "Requests/sec:"); ok {
			var err error
			if rate, err = strconv.ParseFloat(strings.TrimSpace(v), 64); err != nil {
				return 0, err
			}
		}
	}
	if rate == 0 {
		return 0, errors.New("wrk: no Requests/sec")
	}
	return rate, nil
}
