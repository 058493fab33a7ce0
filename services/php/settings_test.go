package php_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"nutshell/roles/api"
	"nutshell/services/php"
	"nutshell/services/servicetest"
)

func pages(t *testing.T, settings string, files map[string]string) (w *servicetest.World, get func(path string) string) {
	t.Helper()
	needPrograms(t)
	k := php.Kind()
	k.DefaultCode = files
	w = servicetest.New(t, k)
	if err := w.Configure(t.Context(), settings); err != nil {
		t.Fatal(err, api.AsError(err).LogTail)
	}
	all, err := urls(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	return w, func(path string) string {
		t.Helper()
		_, body, err := fetch(t.Context(), client(), http.MethodGet, all[0]+path, "")
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
}

// What settings say is what PHP sees.
func TestSettingsReachPHP(t *testing.T) {
	w, get := pages(t, `{"max_execution_time":7,"memory_limit":"48M","upload_max_filesize":"3M","post_max_size":"5M","timezone":"Europe/Amsterdam","session_lifetime":600,
		"allow_url_fopen":false,"opcache_memory":40,"opcache_validate_timestamps":false,"disable_functions":["exec","gethostname"],"extensions":["-xml"]}`, map[string]string{
		"index.php": `<?php $r = []; foreach (["max_execution_time","memory_limit","upload_max_filesize","post_max_size","date.timezone","session.gc_maxlifetime","allow_url_fopen","allow_url_include","opcache.memory_consumption",
			"opcache.validate_timestamps","session.save_handler","display_errors","log_errors","expose_php"] as $k) $r[$k] = ini_get($k);
			foreach (["exec","gethostname","phpversion","simplexml_load_string","mb_strlen"] as $f) $r[$f] = function_exists($f); echo json_encode($r);`,
		"set.php":   `<?php ini_set("memory_limit", "1G"); ini_set("display_errors", "1"); echo ini_get("memory_limit"), ini_get("display_errors");`,
		"wrong.php": `<?php none_such_function();`,
	})
	var got map[string]any
	if err := json.Unmarshal([]byte(get("")), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"max_execution_time": "7", "memory_limit": "48M", "upload_max_filesize": "3M", "post_max_size": "5M", "date.timezone": "Europe/Amsterdam", "session.gc_maxlifetime": "600",
		"allow_url_fopen": "0", "allow_url_include": "0", "opcache.memory_consumption": "40", "opcache.validate_timestamps": "0", "session.save_handler": "redis", "display_errors": "0", "log_errors": "1", "expose_php": "0",
		"exec": false, "gethostname": false, "phpversion": true, "simplexml_load_string": false, "mb_strlen": true}
	if !maps.Equal(got, want) {
		for k := range want {
			if got[k] != want[k] {
				t.Errorf("%s: got %v, want %v", k, got[k], want[k])
			}
		}
	}
	if got := get("set.php"); got != "48M0" {
		t.Errorf("a page has changed its limits: %q", got)
	}
	if got := get("wrong.php"); strings.Contains(got, "none_such") {
		t.Errorf("errors are shown without debug mode: %q", got)
	}
	if log := w.ReadLog("i1", "php-errors.log"); !strings.Contains(log, "none_such_function") {
		t.Errorf("the error is not in php-errors.log: %q", log)
	}
	if err := w.Configure(t.Context(), `{"display_errors":true,"extensions":[]}`); err != nil {
		t.Fatal(err)
	}
	if got := get("wrong.php"); !strings.Contains(got, "none_such_function") {
		t.Errorf("debug mode does not show errors: %q", got)
	}
	if !strings.Contains(get(""), `"simplexml_load_string":true`) {
		t.Error("a standard extension is not back")
	}
}

func TestExtensionsThatAreNotThere(t *testing.T) {
	w, get := pages(t, `{}`, map[string]string{"index.php": "<?php echo 'fine';"})
	err := w.Configure(t.Context(), `{"extensions":["nonesuch"]}`)
	if e := api.AsError(err); e == nil || e.Code != api.CodeUnavailable || !strings.Contains(err.Error(), "apt-get install php-nonesuch") {
		t.Errorf("got %v, want the package to install", err)
	}
	if got := get(""); got != "fine" {
		t.Errorf("what served does not any more: %q", got)
	}
}

// Every value comes to pages as it is, changes without a cut, and is in no
// file that others can read, no argument and no log.
func TestEnvironment(t *testing.T) {
	var all strings.Builder
	for c := byte(1); c < 127; c++ {
		all.WriteByte(c)
	}
	values := map[string]string{
		"ALL_BYTES": all.String(), "UTF8": "größe ✓ 日本", "EMPTY": "", "QUOTES": `"'` + "`", "DOLLAR": "$HOME ${PATH} $$", "PERCENT": "%s%n", "LINES": "a\nb\r\nc\n[global]\npid=/x", "LONG": strings.Repeat("x", 30<<10),
		"PATH": "/mine", "LD_PRELOAD": "/none.so", "PHP_INI_SCAN_DIR": "/none", "FPM_SOCKETS": "x=9", "TRAIL": "back\\", "EQUALS": "a=b;c=d#e", "SPACE": " x ",
	}
	const secret = "s3cret-in-no-file"
	values["SECRET"] = secret
	var list []api.Variable
	for name, value := range values {
		list = append(list, api.Variable{Name: name, Value: value, Secret: name == "SECRET"})
	}
	w, get := pages(t, `{}`, map[string]string{
		"index.php": `<?php $r = []; foreach (json_decode(base64_decode($_GET["names"])) as $n) $r[$n] = [base64_encode((string)getenv($n)), base64_encode($_SERVER[$n] ?? "-"), base64_encode($_ENV[$n] ?? "-")]; echo json_encode($r);`,
		"slow.php":  `<?php if (isset($_GET["begun"])) touch($_GET["begun"]); usleep(300000); echo getenv("SECRET");`,
		"all.php":   `<?php echo json_encode(array_keys(getenv()));`,
	})
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil { // PHP's account writes there
		t.Fatal(err)
	}
	begun, slow := filepath.Join(dir, "begun"), make(chan string)
	go func() { slow <- get("slow.php?begun=" + begun) }()
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(begun); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the slow page did not begin")
		}
	}
	if err := w.Setenv(t.Context(), list...); err != nil {
		t.Fatal(err)
	}
	if got := <-slow; got != "" {
		t.Errorf("a page that had begun got %q", got)
	}
	names, _ := json.Marshal(sortedNames(values)) // strings always encode
	var got map[string][3][]byte
	if err := json.Unmarshal([]byte(get("?names="+encode64(names))), &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range values {
		if name == "PATH" {
			continue // PHP-FPM sets it for pages where a service does not; tried below
		}
		for i, where := range []string{"getenv", "$_SERVER", "$_ENV"} {
			if string(got[name][i]) != want {
				t.Errorf("%s by %s: got %.60q, want %.60q", name, where, got[name][i], want)
			}
		}
	}
	if string(got["PATH"][0]) != "/mine" {
		t.Errorf("PATH: got %q", got["PATH"][0])
	}
	if keys := get("all.php"); strings.Contains(keys, "NUTSHELL_SET") {
		t.Errorf("pages see what they should not: %s", keys)
	}
	notIn(t, w, secret)
	if err := w.Setenv(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := get("slow.php"); got != "" {
		t.Errorf("a variable that was taken away is still %q", got)
	}
	if err := os.WriteFile(filepath.Join(w.Dir("i1", "etc"), "startup.env"), []byte("export MYSQL_IP='10.0.0.4'\nSECRET=from-script\nno variable\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.Setenv(t.Context(), api.Variable{Name: "OTHER", Value: "x"}); err != nil {
		t.Fatal(err)
	}
	names, _ = json.Marshal([]string{"MYSQL_IP"}) // strings always encode
	if err := json.Unmarshal([]byte(get("?names="+encode64(names))), &got); err != nil || string(got["MYSQL_IP"][0]) != "10.0.0.4" {
		t.Errorf("a variable of the startup script: got %q, %v", got["MYSQL_IP"][0], err)
	}
	if got := get("slow.php"); got != "from-script" {
		t.Errorf("got %q", got)
	}
}

// notIn looks for a secret in arguments of processes and in files that other
// accounts can read.
func notIn(t *testing.T, w *servicetest.World, secret string) {
	t.Helper()
	for _, p := range w.Processes("i1") {
		if b, err := os.ReadFile(filepath.Join("/proc", itoa(p.PID), "cmdline")); err != nil || strings.Contains(string(b), secret) {
			t.Errorf("process %s: %q, %v", p.Name, b, err)
		}
	}
	err := filepath.WalkDir(filepath.Dir(w.Dir("i1", "etc")), func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), secret) {
			t.Errorf("the secret is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestDocumentRoot(t *testing.T) {
	w, get := pages(t, `{}`, map[string]string{"index.php": `<?php echo "flat";`})
	w.Files["code-public1"] = map[string]string{"public/index.php": `<?php echo "public ", include __DIR__ . "/../src/secret.php", " ", $_SERVER["DOCUMENT_ROOT"] === __DIR__ ? "root" : "other";`, "public/style.css": "body {}",
		"src/secret.php": `<?php return "inside";`, "composer.json": "{}"}
	w.Files["code-flat2"] = map[string]string{"index.php": `<?php echo "flat again";`, "lib/x.php": ""}
	if err := w.Configure(t.Context(), `{"document_root":"public"}`); err != nil {
		t.Fatal(err)
	}
	if got := get(""); got != "flat" {
		t.Errorf("the version that has no such directory: got %q, want it as before", got)
	}
	if err := w.Activate(t.Context(), "code-public1"); err != nil {
		t.Fatal(err)
	}
	check := func(where string) {
		t.Helper()
		for path, want := range map[string]string{"": "public inside root", "style.css": "body {}", "composer.json": "public inside root", "src/secret.php": "public inside root"} {
			if got := get(path); got != want {
				t.Errorf("%s: /%s: got %.80q, want %q", where, path, got, want)
			}
		}
	}
	check("packed")
	if err := w.Scale(t.Context(), map[string]int{"backend": 2, "web": 2}); err != nil {
		t.Fatal(err)
	}
	check("spread")
	err := w.Activate(t.Context(), "code-flat2")
	if e := api.AsError(err); e == nil || e.Code != api.CodeInvalid || !strings.Contains(err.Error(), "one of: lib") {
		t.Errorf("got %v, want a refusal that names the directories", err)
	}
	check("after a refusal")
}

func TestSlowLog(t *testing.T) {
	w, get := pages(t, `{"slow_seconds":1}`, map[string]string{"index.php": "<?php echo 1;", "slow.php": `<?php function dawdle() { sleep(2); } dawdle(); echo "done";`})
	if got := get("slow.php"); got != "done" {
		t.Fatal(got)
	}
	for range 1500 {
		if strings.Contains(w.ReadLog("i1", "fpm-slow.log"), "dawdle() ") {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if log := w.ReadLog("i1", "fpm-slow.log"); !strings.Contains(log, "slow.php") {
		t.Errorf("the slow page is not in its log: %q; %q", log, w.ReadLog("i1", "fpm-error.log"))
	}
	if log := w.ReadLog("i1", "fpm-access.log"); !strings.Contains(log, "slow.php") {
		t.Errorf("the page is not in the access log: %q", log)
	}
}

// A PHP-FPM that is killed is started again; requests that come meanwhile
// wait instead of failing.
func TestRequestsWaitForPHP(t *testing.T) {
	w, get := pages(t, `{}`, map[string]string{"index.php": "<?php echo 'fine';"})
	for range 3 {
		for _, p := range w.Processes("i1") {
			if strings.HasPrefix(p.Name, "php-fpm") {
				children, _ := os.ReadFile(filepath.Join("/proc", itoa(p.PID), "task", itoa(p.PID), "children"))
				if err := syscall.Kill(-p.PID, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				for _, child := range strings.Fields(string(children)) { // one that is just dying may still take a request
					for stat := "R"; stat != "" && !strings.Contains(stat, ") Z "); time.Sleep(time.Millisecond) {
						b, _ := os.ReadFile(filepath.Join("/proc", child, "stat"))
						stat = string(b)
					}
				}
			}
		}
		began := time.Now()
		if got := get(""); got != "fine" {
			t.Errorf("got %q: %s", got, w.ReadLog("i1", "nginx-proxy-error.log"))
		}
		t.Logf("answered %v after PHP-FPM was killed", time.Since(began).Round(time.Millisecond))
	}
}
