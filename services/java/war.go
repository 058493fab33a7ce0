package java

import (
	"archive/zip"
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"nutshell/roles/api"
)

// facts are what an application's files tell before it runs.
type facts struct {
	JavaEE   string   // the first file that shows that it was written for javax.servlet; empty: it was not
	Dynamic  string   // why all of its paths go to Tomcat; empty: files may be served without it
	Patterns []string // of its servlets, in the words of web.xml
	Welcome  []string // names of files that stand for their directory
	used     struct{ own, libs, jakarta string }
}

// Bounds of what is looked at; beyond them Tomcat gets everything.
const (
	largestClass = 4 << 20
	mostEntries  = 200_000
)

// inspect reads an unpacked WAR.
func inspect(dir string) (facts, error) {
	var f facts
	if err := f.shape(dir); err != nil {
		return f, err
	}
	entries := 0
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil // the application changes its files while we look
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if entries++; entries > mostEntries {
			f.dynamic("it has too many files to look at them all")
			return fs.SkipAll
		}
		rel, err := filepath.Rel(dir, name)
		if err == nil {
			err = f.file(name, filepath.ToSlash(rel))
		}
		return err
	})
	f.JavaEE = f.used.own
	if f.JavaEE == "" && f.used.jakarta == "" {
		f.JavaEE = f.used.libs // an application for Jakarta may well carry a library that knows both
	}
	slices.Sort(f.Patterns)
	f.Patterns = slices.Compact(f.Patterns)
	if len(f.Welcome) == 0 {
		f.Welcome = []string{"index.html", "index.htm"}
	}
	return f, err
}

// shape refuses archives that do not hold an application at their top.
func (f *facts) shape(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	refuse := func(message, hint string) error {
		return &api.Error{Code: api.CodeInvalid, Op: "read application", Message: message, Hint: hint}
	}
	if info, err := os.Lstat(filepath.Join(dir, "WEB-INF")); err == nil && !info.IsDir() {
		return refuse("WEB-INF is not a directory", "build the WAR anew")
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		return strings.HasPrefix(e.Name(), ".") || e.Name() == "META-INF" || e.Name() == "__MACOSX"
	})
	switch {
	case len(entries) == 0:
		return refuse("the archive is empty", "upload a WAR")
	case len(entries) > 1:
		return nil
	}
	only := entries[0].Name()
	if _, err := os.Stat(filepath.Join(dir, only, "WEB-INF")); err == nil && entries[0].IsDir() && only != "WEB-INF" {
		return refuse("it holds everything in the directory "+api.Shorten(only)+", so there is nothing at its top", "pack what is inside of that directory, or upload it with --strip")
	}
	if strings.HasSuffix(strings.ToLower(only), ".war") {
		return refuse("it holds the WAR "+api.Shorten(only)+" instead of being one", "upload that file itself")
	}
	return nil
}

func (f *facts) dynamic(why string) {
	if f.Dynamic == "" {
		f.Dynamic = why
	}
}

// file looks at one file of the application.
func (f *facts) file(name, rel string) error {
	lower := strings.ToLower(rel)
	switch {
	case rel == "WEB-INF/web.xml":
		b, err := readFile(name)
		if err != nil {
			return err
		}
		f.text(b, rel)
		f.descriptor(b)
	case rel == "META-INF/context.xml":
		b, err := readFile(name)
		if err != nil {
			return err
		}
		if bytes.Contains(b, []byte("<Valve")) || bytes.Contains(b, []byte("<Resources")) {
			f.dynamic("its context.xml has valves or resources")
		}
	case strings.HasPrefix(rel, "WEB-INF/lib/") && strings.HasSuffix(lower, ".jar"):
		return f.jar(name, rel)
	case strings.HasSuffix(lower, ".class"):
		b, err := readFile(name)
		if err != nil {
			return err
		}
		f.class(b, rel, &f.used.own)
	case pageName.MatchString(rel) || strings.HasSuffix(lower, ".tld"):
		b, err := readFile(name)
		if err != nil {
			return err
		}
		f.text(b, rel)
	}
	return nil
}

func readFile(name string) ([]byte, error) {
	in, err := os.Open(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	defer func() { _ = in.Close() }()
	return io.ReadAll(io.LimitReader(in, largestClass))
}

// jar looks into a library. One that cannot be read is for Tomcat to judge.
func (f *facts) jar(name, rel string) error {
	z, err := zip.OpenReader(name)
	if err != nil {
		f.dynamic(rel + " cannot be read")
		return nil //nolint:nilerr // see above
	}
	defer func() { _ = z.Close() }()
	for n, e := range z.File {
		if n > mostEntries {
			f.dynamic(rel + " has too many entries to look at them all")
			return nil
		}
		switch {
		case e.Name == "META-INF/web-fragment.xml":
			f.dynamic(rel + " is a web fragment")
		case strings.HasPrefix(e.Name, "META-INF/services/") && strings.HasSuffix(e.Name, "servlet.ServletContainerInitializer"):
			f.dynamic(rel + " adds servlets and filters when it starts")
		case strings.HasSuffix(e.Name, ".class"):
			r, err := e.Open()
			if err != nil {
				continue
			}
			b, err := io.ReadAll(io.LimitReader(r, largestClass))
			_ = r.Close()
			if err == nil {
				f.class(b, rel, &f.used.libs)
			}
		}
	}
	return nil
}

// Packages that moved, of those that Tomcat has.
var (
	javaxInClass   = regexp.MustCompile(`javax/(?:servlet|websocket|el)/`)
	jakartaInClass = []byte("jakarta/servlet/")
	javaxInText    = regexp.MustCompile(`javax\.(?:servlet|websocket|el)\.`)
	pageName       = regexp.MustCompile(`(?i)\.(?:jsp[xf]?|tagx?|tagf)$`)
)

func (f *facts) class(b []byte, rel string, used *string) {
	if *used == "" && javaxInClass.Match(b) {
		*used = rel
	}
	if bytes.Contains(b, jakartaInClass) {
		f.used.jakarta = rel
	}
	if !bytes.Contains(b, []byte("/servlet/annotation/")) {
		return
	}
	for _, a := range []string{"WebFilter", "WebListener", "ServletSecurity", "HandlesTypes"} {
		if bytes.Contains(b, []byte("/servlet/annotation/"+a+";")) {
			f.dynamic(rel + " is annotated with " + a)
		}
	}
	if bytes.Contains(b, []byte("/servlet/annotation/WebServlet;")) {
		f.Patterns = append(f.Patterns, constants(b)...)
	}
}

// constants are the texts of a class that could be patterns of a servlet.
func constants(b []byte) []string {
	var all []string
	for i := 0; i+3 < len(b); i++ {
		if b[i] != 1 { // CONSTANT_Utf8, its length, the text
			continue
		}
		n := int(b[i+1])<<8 | int(b[i+2])
		if n == 0 || n > 200 || i+3+n > len(b) {
			continue
		}
		if t := string(b[i+3 : i+3+n]); t[0] == '/' || strings.HasPrefix(t, "*.") {
			all = append(all, t)
		}
	}
	return all
}

func (f *facts) text(b []byte, rel string) {
	if f.used.own == "" && javaxInText.Match(b) {
		f.used.own = rel
	}
	if bytes.Contains(b, []byte("jakarta.servlet.")) {
		f.used.jakarta = rel
	}
}

// descriptor reads what web.xml says of paths. One that is no XML is for
// Tomcat to refuse.
func (f *facts) descriptor(b []byte) {
	d := xml.NewDecoder(bytes.NewReader(b))
	d.Strict = false
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil } // names and patterns are ASCII
	var within []string
	for {
		token, err := d.Token()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				f.dynamic("its web.xml cannot be read")
			}
			return
		}
		switch t := token.(type) {
		case xml.StartElement:
			within = append(within, t.Name.Local)
			switch t.Name.Local {
			case "filter", "filter-mapping", "listener", "security-constraint":
				f.dynamic(fmt.Sprintf("its web.xml has a %s", t.Name.Local))
			}
		case xml.EndElement:
			within = within[:max(len(within)-1, 0)]
		case xml.CharData:
			text := strings.TrimSpace(string(t))
			if text == "" || len(within) < 2 {
				continue
			}
			switch within[len(within)-2] + "/" + within[len(within)-1] {
			case "servlet-mapping/url-pattern", "jsp-property-group/url-pattern":
				f.Patterns = append(f.Patterns, text)
			case "welcome-file-list/welcome-file":
				f.Welcome = append(f.Welcome, path.Base(text))
			}
		}
	}
}

// serves reports whether a web server may serve a file of the application by
// itself: no servlet has its path, it is no page, and no secret.
func (f *facts) serves(rel string) bool {
	if pageName.MatchString(rel) || slices.Contains(f.Welcome, path.Base(rel)) {
		return false
	}
	for _, part := range strings.Split(rel, "/") {
		if strings.HasPrefix(part, ".") && part != ".well-known" || strings.EqualFold(part, "WEB-INF") || strings.EqualFold(part, "META-INF") {
			return false
		}
	}
	asked := "/" + rel
	for _, p := range f.Patterns {
		ext, isExt := strings.CutPrefix(p, "*.")
		prefix, isPrefix := strings.CutSuffix(p, "/*")
		switch {
		case p == "/", p == "/*", p == "", asked == p, isExt && strings.HasSuffix(asked, "."+ext), isPrefix && (asked == prefix || strings.HasPrefix(asked, prefix+"/")):
			return false
		case strings.HasPrefix(p, asked+"/"): // it would be a directory to the one and a file to the other
			return false
		}
	}
	return true
}
