package context

import (
	"regexp"
	"strings"
)

var assigned = regexp.MustCompile(`^(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)=`)

// variables reads what a shell would know after OpenNebula's context.sh: one
// NAME=VALUE behind the other, quoted, and over several lines where the value
// has some. Nothing is expanded and nothing runs.
func variables(b []byte) map[string]string {
	list := map[string]string{}
	text := strings.ReplaceAll(string(b), "\r\n", "\n")
	for text != "" {
		m := assigned.FindStringSubmatch(text)
		if m == nil { // a comment, an empty line, or nothing that we know
			_, text, _ = strings.Cut(text, "\n")
			continue
		}
		list[m[1]], text = shellWord(text[len(m[0]):])
	}
	return list
}

// shellWord reads one word with its quotes, and what follows.
func shellWord(text string) (word, rest string) {
	var b strings.Builder
	quote := byte(0)
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && quote != '\'' && i+1 < len(text):
			i++
			if quote == '"' && !strings.ContainsRune("\\\"$`\n", rune(text[i])) {
				b.WriteByte(c)
			}
			b.WriteByte(text[i])
		case c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case quote == 0 && strings.IndexByte(" \t\n;", c) >= 0:
			return b.String(), text[i+1:]
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), ""
}
