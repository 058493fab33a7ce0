package metrics

import "strings"

// figure is a graph that a service may have. It is drawn when there is
// something to draw, so a kind has the graphs of what its agents measure.
type figure struct {
	id, title, unit string
	lines           []line // of the whole service
	each            []line // by instance; none: as for the whole service
}

// line is one query of a figure. In query, $i stands for what selects the
// series of instances, $s for those that count for the service (on the coarse
// level, the sums that it keeps), and $w for the time over which a rate is
// taken.
type line struct {
	name      string   // of the line; empty: the values of the labels in by
	by        []string // labels that make lines of their own
	query     string
	quantiles []quantile // of the histogram that the query gives
	spread    bool       // mean and highest of what the query gives, which so is read once
}

type quantile struct {
	name string
	of   float64
}

// figures are all graphs, in the order in which they are shown. What clients
// see is what the proxies measured.
func figures() []figure {
	all := []quantile{{"p50", 0.50}, {"p95", 0.95}, {"p99", 0.99}}
	p95 := []quantile{{"", 0.95}}
	instance, instancePart := []string{"instance"}, []string{"instance", "part"}
	// gauge is a figure of the whole instance.
	gauge := func(id, title, unit, query string) figure {
		return figure{id, title, unit, []line{{query: query, spread: true}},
			[]line{{by: instance, query: "sum by (instance) (" + query + ")"}}}
	}
	// added is a figure that instances share.
	added := func(id, title, unit string, lines ...line) figure {
		f := figure{id: id, title: title, unit: unit}
		for _, l := range lines {
			f.lines = append(f.lines, line{name: l.name, query: "sum(" + l.query + ")"})
			f.each = append(f.each, line{name: l.name, by: instance, query: "sum by (instance) (" + strings.ReplaceAll(l.query, "$s", "$i") + ")"})
		}
		return f
	}
	return []figure{
		{"requests", "Requests", "/s", []line{{by: []string{"part"}, query: "sum by (part) (rate(nutshell_http_requests_total{$s}[$w]))"}},
			[]line{{by: instancePart, query: "sum by (instance, part) (rate(nutshell_http_requests_total{$i}[$w]))"}}},
		{"status", "Answers by status", "/s", []line{{by: []string{"class"}, query: `sum by (class) (rate(nutshell_http_requests_total{$s,part="proxy"}[$w]))`}}, nil},
		{"latency", "Time to answer", "s", []line{{query: `sum(rate(nutshell_http_seconds{$s,part="proxy"}[$w]))`, quantiles: all}},
			[]line{{by: instancePart, query: `sum by (instance, part) (rate(nutshell_http_seconds{$i}[$w]))`, quantiles: p95}}},
		{"errors", "Errors", "/s", []line{{by: []string{"class"}, query: `sum by (class) (rate(nutshell_http_requests_total{$s,part="proxy",class=~"4xx|5xx"}[$w]))`}},
			[]line{{by: instancePart, query: `sum by (instance, part) (rate(nutshell_http_requests_total{$i,class=~"4xx|5xx"}[$w]))`}}},
		added("traffic", "Traffic sent", "B/s", line{query: `rate(nutshell_http_bytes_total{$s,part="proxy"}[$w])`}),
		added("connections", "Connections of clients", "", line{query: `avg_over_time(nutshell_http_connections{$i,part="proxy"}[$w])`}),
		gauge("cpu", "CPU", "%", "100 * rate(nutshell_cpu_seconds_total{$i}[$w])"),
		gauge("memory", "Memory", "B", "avg_over_time(nutshell_memory_bytes{$i}[$w])"),
		gauge("disk", "Disk", "B", "avg_over_time(nutshell_disk_bytes{$i}[$w])"),
		gauge("processes", "Processes", "", "avg_over_time(nutshell_processes{$i}[$w])"),
		added("network", "Network", "B/s", line{name: "in", query: `rate(nutshell_network_bytes_total{$s,direction="in"}[$w])`}, line{name: "out", query: `rate(nutshell_network_bytes_total{$s,direction="out"}[$w])`}),
		added("php", "PHP processes", "", line{name: "active", query: `avg_over_time(nutshell_php_processes{$i,state="active"}[$w])`}, line{name: "idle", query: `avg_over_time(nutshell_php_processes{$i,state="idle"}[$w])`},
			line{name: "waiting requests", query: `avg_over_time(nutshell_php_queue{$i}[$w])`}),
		added("php_slow", "Slow PHP pages", "/s", line{query: `rate(nutshell_php_slow_total{$s}[$w])`}),
		added("java_threads", "Java threads", "", line{name: "busy", query: `avg_over_time(nutshell_java_threads{$i,state="busy"}[$w])`}, line{name: "all", query: `avg_over_time(nutshell_java_threads{$i,state="all"}[$w])`}),
		added("java_heap", "Java heap", "B", line{name: "used", query: `avg_over_time(nutshell_java_heap_bytes{$i,state="used"}[$w])`}, line{name: "limit", query: `avg_over_time(nutshell_java_heap_bytes{$i,state="limit"}[$w])`}),
		{"mysql_queries", "Queries", "/s", []line{{by: []string{"type"}, query: "sum by (type) (rate(nutshell_mysql_queries_total{$s}[$w]))"}},
			[]line{{by: []string{"instance", "type"}, query: "sum by (instance, type) (rate(nutshell_mysql_queries_total{$i}[$w]))"}}},
		gauge("mysql_misalignment", "Misalignment of nodes", "", "avg_over_time(nutshell_mysql_misalignment{$i}[$w])"),
		gauge("mysql_paused", "Share of time that writes wait for slow nodes", "", "avg_over_time(nutshell_mysql_flow_control_paused{$i}[$w])"),
		added("mysql_connections", "Connections to databases", "", line{name: "open", query: `avg_over_time(nutshell_mysql_connections{$i}[$w])`}, line{name: "busy", query: `avg_over_time(nutshell_mysql_threads_running{$i}[$w])`}),
		gauge("mysql_data", "Data of nodes", "B", "avg_over_time(nutshell_mysql_data_bytes{$i}[$w])"),
		added("sessions", "Sessions", "", line{query: `avg_over_time(nutshell_sessions{$i}[$w])`}),
		{"instances", "Instances", "", []line{{query: "count(avg_over_time(nutshell_memory_bytes{$i}[$w]))"}}, nil},
	}
}
