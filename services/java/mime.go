package java

import (
	"os"
	"regexp"
	"strings"
)

// mimeType is one file name extension that Tomcat knows.
type mimeType struct{ Extension, Type string }

// nginxTypes is Debian's table, which the web servers of the service use, too.
const nginxTypes = "/etc/nginx/mime.types"

var typeWord = regexp.MustCompile(`^[A-Za-z0-9.+/_-]+$`)

// mimeTypes reads nginx's table, so that a file has the same type whoever
// serves it.
func mimeTypes() []mimeType {
	b, err := os.ReadFile(nginxTypes)
	if err != nil {
		return nil
	}
	_, body, _ := strings.Cut(string(b), "{")
	var all []mimeType
	for _, line := range strings.Split(body, ";") {
		words := strings.Fields(line)
		for _, ext := range words[min(1, len(words)):] {
			if typeWord.MatchString(ext) && typeWord.MatchString(words[0]) {
				all = append(all, mimeType{ext, words[0]})
			}
		}
	}
	return all
}
