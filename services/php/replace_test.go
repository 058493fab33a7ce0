package php

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nutshell/roles/api"
	"nutshell/services"
	"nutshell/services/web"
)

// hostOf answers what Plan asks: which instances lack packages.
type hostOf struct {
	services.Host
	settings string
	lacking  string // their ids
}

func (h hostOf) Service() api.DesiredService {
	return api.DesiredService{Service: api.Service{Settings: json.RawMessage(h.settings)}}
}
func (h hostOf) Log() *slog.Logger { return slog.New(slog.DiscardHandler) }
func (h hostOf) Call(_ context.Context, instance, _ string, args, result any) error {
	if instance == "silent" {
		return errors.New("it does not answer")
	}
	if strings.Contains(h.lacking, instance) {
		*result.(*[]string) = args.([]string)
	}
	return nil
}

func TestPlanReplacesWhatLacksExtensions(t *testing.T) {
	const wants = `{"extensions":["memcached","gmp"]}`
	tests := []struct {
		name, settings, lacking, have, address string
		want                                   map[string]int
		leave                                  string
		launch                                 int
	}{
		{"nothing-asked", `{"extensions":["gmp"]}`, "a", "a:proxy,web,backend", "10.0.0.1", map[string]int{"proxy": 1, "web": 1, "backend": 1}, "", 0},
		{"packed", wants, "a", "a:proxy,web,backend", "10.0.0.1", map[string]int{"proxy": 1, "web": 1, "backend": 1}, "a", 1},
		{"spread", wants, "b c", "p:proxy,web b:backend c:backend", "10.0.0.1", map[string]int{"proxy": 1, "web": 1, "backend": 2}, "b c", 2},
		{"one-of-two", wants, "b", "p:proxy,web b:backend c:backend", "10.0.0.1", map[string]int{"proxy": 1, "web": 1, "backend": 2}, "b", 1},
		{"packed-again-on-a-proxy-that-lacks", wants, "p", "p:proxy,web b:backend c:backend", "10.0.0.1", map[string]int{"proxy": 1, "web": 1, "backend": 1}, "c p", 0},
		{"processes-of-this-machine", wants, "a", "a:proxy,web,backend", "127.0.3.1", map[string]int{"proxy": 1, "web": 1, "backend": 1}, "", 0},
		{"silent", wants, "", "silent:proxy,web,backend", "10.0.0.1", map[string]int{"proxy": 1, "web": 1, "backend": 1}, "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var have []api.Instance
			for f := range strings.FieldsSeq(tt.have) {
				id, parts, _ := strings.Cut(f, ":")
				have = append(have, api.Instance{ID: id, Parts: strings.Split(parts, ","), Address: tt.address})
			}
			m := &manager{web.Manager{Host: hostOf{settings: tt.settings, lacking: tt.lacking}}}
			l, err := m.Plan(have, tt.want, nil)
			if err != nil {
				t.Fatal(err)
			}
			var leave []string
			for _, i := range l.Leave {
				leave = append(leave, i.ID)
			}
			slices.Sort(leave)
			if got := strings.Join(leave, " "); got != tt.leave || len(l.Launch) != tt.launch {
				t.Errorf("leave %q, launch %v; want %q and %d", got, l.Launch, tt.leave, tt.launch)
			}
		})
	}
}

func TestExtensions(t *testing.T) {
	root := t.TempDir()
	for _, f := range []string{"etc/php/8.2/fpm/conf.d/10-opcache.ini", "etc/php/8.2/fpm/conf.d/20-igbinary.ini", "etc/php/8.4/fpm/conf.d/10-opcache.ini", "etc/php/8.4/fpm/conf.d/20-mysqli.ini", "etc/php/8.4/fpm/conf.d/20-gmp.ini",
		"etc/php/8.4/fpm/conf.d/25-memcached.ini", "usr/share/php8.4-mysql/mysql/mysqli.ini", "usr/share/php8.4-gmp/gmp/gmp.ini", "var/lib/dpkg/info/php8.4-mysql.list", "var/lib/dpkg/info/php8.4-gmp.list", "var/lib/dpkg/info/php-memcached.list"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, f)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, f), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct{ name, chosen, loaded, fails string }{
		{"standard", "", "10-opcache 20-mysqli 25-memcached", ""},
		{"more", "gmp memcached", "10-opcache 20-gmp 20-mysqli 25-memcached", ""},
		{"less", "-mysql", "10-opcache 25-memcached", ""},
		{"missing", "gmp imagick uuid", "", "not installed: php-imagick, php-uuid"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			load, err := loadedExtensions(root, strings.Fields(tt.chosen))
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("got %v, want %q", err, tt.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range load {
				got = append(got, strings.TrimSuffix(filepath.Base(f), ".ini"))
			}
			if strings.Join(got, " ") != tt.loaded {
				t.Errorf("got %q, want %q", got, tt.loaded)
			}
		})
	}
	if got := extraPackages(settings{Extensions: []string{"gmp", "memcached", "-gd", "mysql", "imagick"}}); strings.Join(got, " ") != "php-imagick php-memcached" {
		t.Errorf("extra packages: %q", got)
	}
}
