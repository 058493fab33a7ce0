package client

// The help texts are urfave/cli's with less noise: no NAME headings, no
// repeated options, and options and examples where the eye looks first.

const appHelp = `{{.HelpName}} - {{.Usage}}

usage: {{.HelpName}} [options]{{if .Commands}} <command>{{end}} [arguments]
{{range .VisibleCategories}}{{if .VisibleCommands}}
{{if .Name}}{{.Name}}{{else}}commands{{end}}:{{range .VisibleCommands}}
  {{printf "%-22s" .Name}} {{.Usage}}{{end}}
{{end}}{{end}}
options, before or behind the command:{{range .VisibleFlags}}
  {{range $i, $n := .Names}}{{if $i}}, {{end}}{{if eq (len $n) 1}}-{{else}}--{{end}}{{$n}}{{end}}{{if .TakesValue}} VALUE{{end}}{{"\t"}}{{.GetUsage}}{{end}}

Each command has --help. Underscores and dashes are the same: add_nodes is add-nodes.
`

const objectHelp = `{{.HelpName}} - {{.Usage}}

usage: {{.HelpName}} <command> [arguments]

commands:{{range .VisibleCommands}}
  {{printf "%-22s" .Name}} {{.Usage}}{{end}}

Each command has --help.
`

const verbHelp = `{{.HelpName}} - {{.Usage}}

usage: {{.HelpName}}{{if .VisibleFlags}} [options]{{end}}{{if .ArgsUsage}} {{.ArgsUsage}}{{end}}
{{if .Description}}
{{.Description}}
{{end}}{{if .Flags}}
options:{{range .Flags}}
  {{range $i, $n := .Names}}{{if $i}}, {{end}}{{if eq (len $n) 1}}-{{else}}--{{end}}{{$n}}{{end}}{{if .TakesValue}} VALUE{{end}}{{"\t"}}{{.GetUsage}}{{end}}
{{end}}`
