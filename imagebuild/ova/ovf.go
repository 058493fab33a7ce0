package ova

import (
	_ "embed"
	"encoding/xml"
	"strings"
	"text/template"
)

//go:embed machine.ovf.tmpl
var machineText string

// Machine describes the virtual machine that an importer makes.
type Machine struct {
	Name     string
	Product  string
	Version  string
	OSType   string // as VirtualBox calls it: Debian_64
	CPUs     int
	MemoryMB int
	Networks []Network // one adapter each, in this order
}

// Network is what an adapter is put on: "NAT" and "HostOnly" mean to
// VirtualBox what they say.
type Network struct{ Name, Text string }

// Disk is the one disk of a machine.
type disk struct {
	File     string
	Bytes    int64 // of the file
	Capacity int64
}

// descriptor renders the OVF 1.0 envelope.
func descriptor(m Machine, d disk) (string, error) {
	t, err := template.New("ovf").Funcs(template.FuncMap{
		"xml": func(s string) (string, error) {
			var b strings.Builder
			err := xml.EscapeText(&b, []byte(s))
			return b.String(), err
		},
		"add": func(a, b int) int { return a + b },
	}).Parse(machineText)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = t.Execute(&b, struct {
		Machine
		Disk disk
	}{m, d})
	return b.String(), err
}
