package api

import "time"

// Weights are shares of the requests, by instance and part; 1 to 1000,
// 100 where nothing else was said.
type Weights struct {
	Weights map[string]map[string]int `json:"weights"`
}

// Site is a host name under which the director's edge shows a service.
type Site struct {
	Name        string    `json:"name"`        // www.example.org
	Automatic   bool      `json:"automatic"`   // made of the application's name and the edge's domain
	Certificate string    `json:"certificate"` // own (the director's CA), file, acme
	Expires     time.Time `json:"expires,omitzero"`
	URL         string    `json:"url"`
	Problem     string    `json:"problem,omitempty"` // why it does not answer, and what to do
}

// AddSite gives a service a host name. Chain and Key are PEM, for certificate
// "file" only, and are not shown again.
type AddSite struct {
	Name        string `json:"name"`
	Certificate string `json:"certificate,omitempty"` // default: acme where the edge has it, else own
	Chain       string `json:"chain,omitempty"`
	Key         string `json:"key,omitempty"`
}

// Edge tells whether the director shows services under names of their own.
type Edge struct {
	On       bool   `json:"on"`
	Domain   string `json:"domain"` // applications are shown as NAME.DOMAIN
	HTTPS    int    `json:"https"`  // port
	HTTP     int    `json:"http"`   // port, 0: none
	ACME     bool   `json:"acme"`
	Fallback string `json:"fallback,omitempty"` // what to do when it is off, for people
}

// Sample is one measured figure of an instance, in Prometheus' terms: a
// counter's name ends in _total, a histogram has cumulative _bucket samples
// with the label le (seconds), and _sum and _count.
type Sample struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
	Value  float64           `json:"value"`
}

// Measured is all that one instance measured.
type Measured struct {
	Instance string    `json:"instance"`
	Service  int64     `json:"service"`
	Parts    []string  `json:"parts"`
	At       time.Time `json:"at"`
	Samples  []Sample  `json:"samples"`
}

// Series is a line of a graph. A point is a time (seconds since 1970) and a
// value; times without a value are left out.
type Series struct {
	Name   string            `json:"name"` // what Graph.Title counts: "p95", an instance, a part
	Labels map[string]string `json:"labels,omitempty"`
	Points [][2]float64      `json:"points"`
}

// Graph is a figure of a service over time.
type Graph struct {
	ID     string    `json:"id"`    // requests, latency, errors, cpu, memory, …
	Title  string    `json:"title"` // "Requests"
	Unit   string    `json:"unit"`  // /s, s, %, B or empty
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until"`
	Step   int       `json:"step"` // seconds between points
	Series []Series  `json:"series"`
}
