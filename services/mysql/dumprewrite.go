package mysql

import (
	"bytes"
	"regexp"
	"strings"
)

// What a statement of a dump becomes before it is sent.
type fate int

const (
	sendIt     fate = iota
	leaveOut        // of no use here; nothing is lost by it
	noAccounts      // accounts are Nutshell's to make
	systemData      // tables of the server itself
)

// longestDefiner bounds how far it reaches.
const longestDefiner = 2000

// headBytes of a statement tell what it does.
const headBytes = 400

var (
	carriedOut   = regexp.MustCompile(`^/\*M?!\d*\s*`)
	useStatement = regexp.MustCompile("(?is)^USE\\s+(?:`((?:[^`]|``)+)`|([^\\s;`]+))\\s*$")
	createsBase  = regexp.MustCompile(`(?i)^CREATE\s+(?:OR\s+REPLACE\s+)?(?:DATABASE|SCHEMA)\b`)
	beginsWhole  = regexp.MustCompile(`(?is)^(?:START\s+TRANSACTION\b.*|BEGIN(?:\s+WORK)?)$`)
	noAutocommit = regexp.MustCompile(`(?i)(?:^SET\s+|[,\s])(?:@@)?(?:SESSION\.|LOCAL\.|SESSION\s+)?AUTOCOMMIT\s*:?=\s*(?:(?:0|OFF|FALSE)\b|@[A-Za-z_])`)
	replication  = regexp.MustCompile(`(?i)\b(?:SQL_LOG_BIN|GTID_PURGED|GTID_SLAVE_POS|GTID_NEXT|PSEUDO_THREAD_ID)\b`)
	ofAccounts   = regexp.MustCompile(`(?i)^(?:GRANT|REVOKE|(?:CREATE|ALTER|DROP|RENAME)\s+(?:OR\s+REPLACE\s+)?(?:USER|ROLE)|SET\s+(?:PASSWORD|DEFAULT\s+ROLE|ROLE))\b`)
	ofServer     = regexp.MustCompile(`(?i)^(?:FLUSH|INSTALL|UNINSTALL|RESET|CHANGE\s+MASTER|PURGE)\b`)
	changesData  = regexp.MustCompile(`(?i)^(?:INSERT|REPLACE|UPDATE|DELETE|CREATE|ALTER|DROP|TRUNCATE|RENAME|LOCK|LOAD)\b`)
	systemName   = regexp.MustCompile("(?i)(?:^|[\\s,(])(?:`(?:mysql|sys|performance_schema|information_schema)`|(?:mysql|sys|performance_schema|information_schema))\\s*\\.")
	systemBase   = regexp.MustCompile("(?i)^(?:CREATE|ALTER|DROP)\\s+(?:OR\\s+REPLACE\\s+)?(?:DATABASE|SCHEMA)\\s+(?:/\\*.*?\\*/\\s*)?(?:IF\\s+(?:NOT\\s+)?EXISTS\\s*(?:\\*/\\s*)?)?`?(?:mysql|sys|performance_schema|information_schema)`?(?:\\s|/|$)")
	changesForm  = regexp.MustCompile(`(?i)^(?:CREATE|ALTER|SET)\b`)
)

// headOf is the beginning of what servers carry out of a statement.
func headOf(text []byte) string {
	text = text[:min(len(text), headBytes)]
	for {
		next := bytes.TrimSpace(carriedOut.ReplaceAll(text, nil))
		for _, c := range [][2]string{{"-- ", "\n"}, {"#", "\n"}, {"/* ", "*/"}} { // between the parts of a statement
			if bytes.HasPrefix(next, []byte(c[0])) {
				if i := bytes.Index(next, []byte(c[1])); i >= 0 {
					next = bytes.TrimSpace(next[i+len(c[1]):])
				}
			}
		}
		if len(next) == len(text) {
			return string(next)
		}
		text = next
	}
}

// judge says what becomes of a statement with this head.
func judge(head string) fate {
	switch {
	case ofAccounts.MatchString(head):
		return noAccounts
	case ofServer.MatchString(head), beginsWhole.MatchString(strings.TrimSuffix(head, "*/")):
		return leaveOut
	case strings.EqualFold(head[:min(3, len(head))], "set") && (noAutocommit.MatchString(head) || replication.MatchString(head)):
		return leaveOut // a table as one transaction is more than replication can carry
	case systemBase.MatchString(head), changesData.MatchString(head) && systemName.MatchString(beforeQuote(head)):
		return systemData
	}
	return sendIt
}

// beforeQuote is what stands before the first string.
func beforeQuote(head string) string {
	if i := strings.IndexAny(head, `'"`); i >= 0 {
		return head[:i]
	}
	return head
}

// used is the database that a USE statement names.
func used(head string) (string, bool) {
	m := useStatement.FindStringSubmatch(head)
	if m == nil {
		return "", false
	}
	if m[1] != "" {
		return strings.ReplaceAll(m[1], "``", "`"), true
	}
	return m[2], true
}

var (
	definer    = regexp.MustCompile("(?i)\\bDEFINER\\s*=\\s*(?:CURRENT_USER(?:\\s*\\(\\s*\\))?|(?:`(?:[^`]|``)*`|'(?:[^'\\\\]|''|\\\\.)*'|[A-Za-z0-9_$]+)(?:\\s*@\\s*(?:`(?:[^`]|``)*`|'(?:[^'\\\\]|''|\\\\.)*'|[A-Za-z0-9_$.%-]+))?)\\s*")
	oldEngine  = regexp.MustCompile(`(?i)\b(ENGINE\s*=?\s*)(?:MyISAM|Aria|ISAM|MRG_MyISAM|TokuDB|RocksDB)\b`)
	newCollate = regexp.MustCompile(`(?i)\butf8mb4_(?:[a-z]{2,3}_)?(?:[a-z]+_)?0900_(ai_ci|as_ci|as_cs|bin)\b`)
)

// adapt rewrites what only the server knew that the dump was made of: owners of
// views and procedures, engines that are not replicated, and collations of
// MySQL 8. Strings are left alone. plain: see splitter.
func adapt(text []byte, head string, plain bool) []byte {
	if !changesForm.MatchString(head) || !definer.Match(text) && !oldEngine.Match(text) && !newCollate.Match(text) {
		return text
	}
	out := make([]byte, 0, len(text))
	create := !strings.EqualFold(head[:3], "set")
	for len(text) > 0 {
		// A definer is written with quotes, so it is looked for first.
		end := nextString(text)
		if create {
			if m := definer.FindIndex(text[:min(len(text), end+longestDefiner)]); m != nil && m[0] < end {
				out = append(out, rewrite(text[:m[0]])...)
				text = text[m[1]:]
				continue
			}
		}
		out = append(out, rewrite(text[:end])...)
		text = text[end:]
		n := stringLength(text, plain)
		out = append(out, text[:n]...)
		text = text[n:]
	}
	return out
}

func rewrite(part []byte) []byte {
	part = oldEngine.ReplaceAll(part, []byte("${1}InnoDB"))
	return newCollate.ReplaceAllFunc(part, func(name []byte) []byte {
		low := strings.ToLower(string(name))
		if strings.HasSuffix(low, "_bin") {
			return []byte("utf8mb4_bin")
		}
		return []byte("utf8mb4_uca1400_" + low[len(low)-len("ai_ci"):])
	})
}

// nextString is where the next string, quoted name or comment begins.
func nextString(text []byte) int {
	for i, c := range text {
		switch {
		case c == '\'' || c == '"' || c == '`' || c == '#':
			return i
		case c == '-' && bytes.HasPrefix(text[i:], []byte("-- ")), c == '/' && bytes.HasPrefix(text[i:], []byte("/* ")):
			return i
		}
	}
	return len(text)
}

// stringLength is the length of the string, quoted name or comment at the
// beginning of text.
func stringLength(text []byte, plain bool) int {
	if len(text) == 0 {
		return 0
	}
	until := ""
	switch q := text[0]; q {
	case '#', '-':
		until = "\n"
	case '/':
		until = "*/"
	default:
		for i := 1; i < len(text); i++ {
			switch {
			case text[i] == '\\' && q != '`' && !plain:
				i++
			case text[i] == q:
				return i + 1
			}
		}
		return len(text)
	}
	if i := bytes.Index(text, []byte(until)); i >= 0 {
		return i + len(until)
	}
	return len(text)
}
