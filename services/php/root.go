package php

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"nutshell/roles/api"
	"nutshell/services/web"
)

// directoryName is one step of a document root. It comes into nginx's
// configuration, where other characters could mean something.
var directoryName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)

func checkDocumentRoot(root string) error {
	if root == "" {
		return nil
	}
	for step := range strings.SplitSeq(root, "/") {
		if !directoryName.MatchString(step) || strings.HasPrefix(step, "code-") || strings.HasPrefix(step, "git-") { // proxies read versions out of paths
			return invalidSetting("document_root", "give a path below the top of the code, for example public", "%s is not a directory of the code", api.Shorten(root))
		}
	}
	return nil
}

// Root implements web.Rooter: where in a version's directory the site is. A
// version without that directory is shown from its top: it may serve while the
// setting is already that of the next one, and Check lets no other through.
func (p *pager) Root(c web.Config, dir string) (string, error) {
	s, err := parseSettings(c.Settings)
	if err != nil {
		return "", err
	}
	if root, ok := documentRoot(dir, s.DocumentRoot); ok {
		return root, nil
	}
	return dir, nil
}

// documentRoot follows no link: one could lead out of the code.
func documentRoot(dir, root string) (string, bool) {
	if root == "" || checkDocumentRoot(root) != nil {
		return dir, root == ""
	}
	for step := range strings.SplitSeq(root, "/") {
		dir = filepath.Join(dir, step)
		if st, err := os.Lstat(dir); err != nil || !st.IsDir() {
			return "", false
		}
	}
	return dir, true
}

// checkRoot refuses a version without the document root that is set.
func checkRoot(version, dir, root string) error {
	if _, ok := documentRoot(dir, root); ok {
		return nil
	}
	var there []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() && directoryName.MatchString(e.Name()) {
			there = append(there, e.Name())
		}
	}
	slices.Sort(there)
	hint := "it has no directories: set document_root to nothing"
	if len(there) > 0 {
		hint = "set document_root to nothing or to one of: " + strings.Join(there[:min(len(there), 20)], ", ")
	}
	return &api.Error{Code: api.CodeInvalid, Op: "check", Object: "version " + version, Message: "it has no directory " + root + ", which is the document root", Fields: []string{"document_root"}, Hint: hint}
}
