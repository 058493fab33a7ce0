package java

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"nutshell/roles/api"
	"nutshell/services"
	"nutshell/services/web"
)

// What happens to applications written for javax.servlet.
const (
	migrateJavax = "migrate"
	refuseJavax  = "refuse"
)

// settings are what users may change.
type settings struct {
	Heap           string   `json:"heap" title:"Heap" help:"memory for Java objects: a size such as 512M or a share of the instance's memory such as 40%; empty: by the instance's memory" pattern:"^([1-9][0-9]{0,5}[MG]|[1-9][0-9]?%)?$" restart:"true"`
	JavaOptions    []string `json:"java_options" title:"Java options" help:"further options of the virtual machine, for example -Dapp.mode=live or -XX:+UseZGC" restart:"true"`
	SessionTimeout int      `json:"session_timeout" title:"Session timeout" help:"minutes after which an unused session is forgotten, unless the application says otherwise" min:"1" max:"44640" unit:"min" restart:"true"`
	ShareSessions  bool     `json:"share_sessions" title:"Shared sessions" help:"keep sessions where all backends find them; off: each backend has its own and loses them when it ends" restart:"true"`
	MaxThreads     int      `json:"max_threads" title:"Threads" help:"requests handled at once by one backend; 0: by the instance's memory" min:"0" max:"2000" restart:"true"`
	MaxRequestSize string   `json:"max_request_size" title:"Largest request" help:"size of a whole request, with what is uploaded" type:"size"`
	RequestTimeout int      `json:"request_timeout" title:"Request timeout" help:"seconds that proxies wait for a page" min:"1" max:"3600" unit:"s"`
	StartTimeout   int      `json:"start_timeout" title:"Start timeout" help:"seconds that an application may take to start" min:"5" max:"600" unit:"s"`
	Debug          bool     `json:"debug" title:"Debug mode" help:"show stack traces in error pages and look for changed JSP files" restart:"true"`
	Javax          string   `json:"javax" title:"javax applications" help:"what to do with applications written for Java EE (javax.servlet): migrate them to Jakarta EE, or refuse them" enum:"migrate|refuse"`
	web.Health
	web.Snippets
}

func defaults() *settings {
	return &settings{JavaOptions: []string{}, SessionTimeout: 30, ShareSessions: true, MaxRequestSize: "50M", RequestTimeout: 120, StartTimeout: 120, Javax: migrateJavax, Health: web.DefaultHealth()}
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

// allowedOptions are what users may tell the virtual machine: nothing that
// loads code past the application, takes over what Nutshell sets itself, or
// writes elsewhere than to the log.
var allowedOptions = regexp.MustCompile(`^(?:` + strings.Join([]string{
	`-D[A-Za-z_][A-Za-z0-9_.-]*(?:=[^\x00-\x1f\x7f]*)?`,
	`-ea|-esa|-da|-dsa|-enableassertions|-disableassertions`,
	`-Xss[1-9][0-9]{0,4}[kKmM]`, `-Xms[1-9][0-9]{0,5}[mMgG]`, `-Xmn[1-9][0-9]{0,5}[mMgG]`,
	`-XX:[+-]Use(?:Serial|Parallel|G1|Z|Shenandoah)GC`, `-XX:[+-](?:UseStringDeduplication|UseCompressedOops|TieredCompilation|DisableExplicitGC|AlwaysPreTouch|ZGenerational|OmitStackTraceInFastThrow|ShowCodeDetailsInExceptionMessages)`,
	`-XX:(?:MaxMetaspaceSize|MetaspaceSize|ReservedCodeCacheSize|MaxDirectMemorySize)=[1-9][0-9]{0,5}[kKmMgG]`,
	`-XX:(?:MaxGCPauseMillis|ParallelGCThreads|ConcGCThreads|ActiveProcessorCount|TieredStopAtLevel|InitiatingHeapOccupancyPercent|NewRatio|SurvivorRatio)=[0-9]{1,5}`,
	`-Xlog:(?:gc|safepoint|class\+load)[a-z0-9*+=,]{0,60}`, `-verbose:gc`,
	`--add-opens=[A-Za-z0-9._]+/[A-Za-z0-9._]+=ALL-UNNAMED`, `--add-exports=[A-Za-z0-9._]+/[A-Za-z0-9._]+=ALL-UNNAMED`, `--add-modules=[A-Za-z0-9._,]+`, `--enable-preview`,
}, `|`) + `)$`)

// reservedProperties are set by the agent; others would break what it promises.
var reservedProperties = regexp.MustCompile(`^-D(?:catalina\.|java\.io\.tmpdir|java\.util\.logging\.(?:config|manager)|java\.class\.path|java\.library\.path|java\.security\.(?:manager|policy)|java\.system\.class\.loader|com\.sun\.management\.|org\.apache\.catalina\.)`)

func checkSettings(v any) error {
	s, ok := v.(*settings)
	if !ok {
		return fmt.Errorf("java: settings are a %T", v)
	}
	invalid := func(field, hint, format string, args ...any) error {
		return &api.Error{Code: api.CodeInvalid, Object: "setting " + field, Message: fmt.Sprintf(format, args...), Hint: hint, Fields: []string{field}}
	}
	if len(s.JavaOptions) > 100 {
		return invalid("java_options", "", "%d options are more than 100", len(s.JavaOptions))
	}
	for _, o := range s.JavaOptions {
		switch {
		case strings.HasPrefix(o, "-Xmx"), strings.Contains(o, "RAMPercentage"), strings.Contains(o, "MaxHeapSize"):
			return invalid("java_options", "use the setting heap", "%s is the size of the heap", api.Shorten(o))
		case reservedProperties.MatchString(o):
			return invalid("java_options", "leave it out", "%s is set by Nutshell itself", api.Shorten(o))
		case len(o) > 2000 || !allowedOptions.MatchString(o):
			return invalid("java_options", "allowed are -D…, -ea, -Xss, -Xms, -Xmn, -Xlog:gc…, --add-opens, --add-exports, --add-modules and -XX options of garbage collection and memory", "%s is not an option that may be given here", api.Shorten(o))
		}
	}
	if h := services.Bytes(s.Heap); s.Heap != "" && !strings.HasSuffix(s.Heap, "%") && h < 32<<20 {
		return invalid("heap", "give at least 32M", "%s is too little for Tomcat to start", s.Heap)
	}
	if services.Bytes(s.MaxRequestSize) < 4<<10 {
		return invalid("max_request_size", "give at least 4K", "%s is too little for a form", s.MaxRequestSize)
	}
	if err := s.Health.Validate(); err != nil {
		return err
	}
	return s.Snippets.Validate()
}

func (s settings) bodyMax() string { return strconv.FormatInt(services.Bytes(s.MaxRequestSize), 10) }

// What a virtual machine takes beside its heap: itself, classes, compiled
// code, threads.
const besideHeap = 112 << 20

// heap is the heap in bytes. While a version is switched two virtual machines
// run at once, and both must find room in the instance.
func (s settings) heap(memory int64) int64 {
	switch {
	case strings.HasSuffix(s.Heap, "%"):
		share, err := strconv.ParseInt(strings.TrimSuffix(s.Heap, "%"), 10, 64)
		if err != nil || memory <= 0 {
			share, memory = 100, 512<<20
		}
		return max(memory*share/100, 32<<20)
	case s.Heap != "":
		return services.Bytes(s.Heap)
	case memory <= 0:
		return 512 << 20
	}
	return max(memory/2-besideHeap, memory/4, 48<<20)
}

// threads is how many requests are handled at once. A thread takes a stack
// and what the application makes of a request.
func (s settings) threads(memory int64) int {
	if s.MaxThreads > 0 {
		return s.MaxThreads
	}
	if memory <= 0 {
		return 200
	}
	return int(min(max(memory/(4<<20), 25), 150)) // two virtual machines must find room among the processes of an instance, too
}
