package php

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"

	"nutshell/roles/api"
	"nutshell/services"
	"nutshell/services/web"
)

// settings are what users may change. Names of php.ini are those of PHP.
type settings struct {
	MaxExecutionTime  int      `json:"max_execution_time" title:"Execution time" help:"seconds of CPU time that a page may use" min:"1" max:"3600" unit:"s"`
	RequestTimeout    int      `json:"request_timeout" title:"Request timeout" help:"seconds after which a page is ended whatever it does" min:"1" max:"3600" unit:"s"`
	MemoryLimit       string   `json:"memory_limit" title:"Memory limit" help:"memory that a page may use" type:"size"`
	UploadMaxFilesize string   `json:"upload_max_filesize" title:"Largest upload" help:"size of one uploaded file" type:"size"`
	PostMaxSize       string   `json:"post_max_size" title:"Largest request" help:"size of a whole request; at least that of the largest upload" type:"size"`
	DisplayErrors     bool     `json:"display_errors" title:"Debug mode" help:"show PHP errors in pages"`
	LogErrors         bool     `json:"log_errors" title:"Log errors" help:"write PHP errors to php-errors.log"`
	DisableFunctions  []string `json:"disable_functions" title:"Disabled functions" help:"PHP functions that pages may not call"`
	AllowURLFopen     bool     `json:"allow_url_fopen" title:"Open URLs as files" help:"let pages read other sites by file functions"`
	SessionLifetime   int      `json:"session_lifetime" title:"Session lifetime" help:"seconds after which an unused session is forgotten" min:"60" max:"2678400" unit:"s"`
	Timezone          string   `json:"timezone" title:"Time zone" help:"for example Europe/Amsterdam" pattern:"^[A-Za-z0-9_+/-]{1,64}$"`
	Children          int      `json:"children" title:"Processes" help:"pages made at once on one backend; 0: by the instance's memory" min:"0" max:"256"`
	DocumentRoot      string   `json:"document_root" title:"Document root" help:"directory of the code that visitors see, for example public; empty: all of it" max:"200"`
	Extensions        []string `json:"extensions" title:"Extensions" help:"PHP extensions to load beside the standard ones, by the name of their Debian package without php-; with - in front: a standard one to leave out"`
	OpcacheMemory     int      `json:"opcache_memory" title:"Code cache" help:"memory for compiled pages; 0: by the instance's memory" min:"0" max:"1024" unit:"MB"`
	OpcacheWatch      bool     `json:"opcache_validate_timestamps" title:"Watch code" help:"notice within seconds when the application changes its own PHP files; off is faster"`
	SlowSeconds       int      `json:"slow_seconds" title:"Slow pages" help:"seconds after which fpm-slow.log tells where a page is; 0: never" min:"0" max:"3600" unit:"s"`
	SessionSpace      string   `json:"session_space" title:"Space for sessions" help:"how much one backend keeps; beyond it the sessions unused for longest are forgotten" type:"size"`
	web.Health
	web.Snippets
}

func defaults() *settings {
	return &settings{
		MaxExecutionTime: 30, RequestTimeout: 120, MemoryLimit: "128M", UploadMaxFilesize: "32M", PostMaxSize: "40M", LogErrors: true, AllowURLFopen: true,
		DisableFunctions: []string{"pcntl_alarm", "pcntl_exec", "pcntl_fork", "pcntl_setpriority", "pcntl_signal", "pcntl_signal_dispatch",
			"pcntl_sigprocmask", "pcntl_sigtimedwait", "pcntl_sigwaitinfo", "pcntl_wait", "pcntl_waitpid"},
		SessionLifetime: 1440, Timezone: "UTC", Health: web.DefaultHealth(), Extensions: []string{}, OpcacheWatch: true, SlowSeconds: 5, SessionSpace: "64M",
	}
}

func parseSettings(raw json.RawMessage) (settings, error) {
	s := *defaults()
	if len(raw) == 0 {
		return s, nil
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, fmt.Errorf("read settings: %w", err)
	}
	return s, checkSettings(&s)
}

// functionName is what may stand in disable_functions; anything else could
// write lines of its own into the configuration.
var functionName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

func checkSettings(v any) error {
	s, ok := v.(*settings)
	if !ok {
		return fmt.Errorf("php: settings are a %T", v)
	}
	invalid := invalidSetting
	if err := checkExtensions(s.Extensions); err != nil {
		return err
	}
	if err := checkDocumentRoot(s.DocumentRoot); err != nil {
		return err
	}
	for _, f := range s.DisableFunctions {
		if !functionName.MatchString(f) {
			return invalid("disable_functions", "", "%s is not the name of a function", api.Shorten(f))
		}
	}
	if len(s.DisableFunctions) > 1000 {
		return invalid("disable_functions", "", "%d functions are more than 1000", len(s.DisableFunctions))
	}
	upload, post, memory := services.Bytes(s.UploadMaxFilesize), services.Bytes(s.PostMaxSize), services.Bytes(s.MemoryLimit)
	switch {
	case memory < 8<<20:
		return invalid("memory_limit", "give at least 8M", "%s is too little for PHP to start a page", s.MemoryLimit)
	case services.Bytes(s.SessionSpace) < 1<<20:
		return invalid("session_space", "give at least 1M", "%s is less than one large session", s.SessionSpace)
	case post < upload:
		return invalid("post_max_size", "raise post_max_size or lower upload_max_filesize", "a request of %s cannot carry a file of %s", s.PostMaxSize, s.UploadMaxFilesize)
	case s.RequestTimeout < s.MaxExecutionTime:
		return invalid("request_timeout", "raise request_timeout or lower max_execution_time", "%d s end a page before its execution time of %d s", s.RequestTimeout, s.MaxExecutionTime)
	}
	if err := s.Health.Validate(); err != nil {
		return err
	}
	return s.Snippets.Validate()
}

func invalidSetting(field, hint, format string, args ...any) error {
	return &api.Error{Code: api.CodeInvalid, Object: "setting " + field, Message: fmt.Sprintf(format, args...), Hint: hint, Fields: []string{field}}
}

// bodyMax is nginx's limit: a little above PHP's, so that PHP is the one to
// say no, in words that the application understands.
func bodyMax(s settings) string {
	return strconv.FormatInt(services.Bytes(s.PostMaxSize)+64<<10, 10)
}

// children is how many pages are made at once. A PHP process of a usual
// application takes some 40 MB beyond what all share; some memory is left for
// nginx and the agent. Fewer than four would let one slow page block a site.
func children(s settings, memory int64) int {
	if s.Children > 0 {
		return s.Children
	}
	if memory <= 0 {
		return 16
	}
	return int(min(max((memory-96<<20)/(48<<20), 4), 64))
}
