package manifest

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"nutshell/roles/api"
)

// Bounds of what one manifest may ask for.
const (
	maxServices    = 64
	maxURL         = 4096
	maxFiles       = 200
	maxFilesBytes  = 1 << 20
	maxDescription = 4000
)

var (
	debianName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{1,99}$`)
	volumeName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)
)

// Complete gives names to the application and to services that have none, and
// checks all that can be checked without knowing the kinds of services.
func (m *Manifest) Complete() error {
	if m.Application == "" {
		m.Application = nameFrom(m.Description)
	}
	if err := api.CheckName("application", m.Application); err != nil {
		return inField(0, "Application", err)
	}
	switch {
	case len(m.Description) > maxDescription:
		return wrong(0, "Description", "", "Description is longer than %d bytes", maxDescription)
	case len(m.Services) > maxServices:
		return wrong(0, "Services", "", "it has %d services, at most %d are allowed", len(m.Services), maxServices)
	}
	taken := map[string]int{}
	for _, s := range m.Services {
		if s.ServiceName == "" {
			continue
		}
		if first, again := taken[s.ServiceName]; again {
			return wrong(s.Line, "ServiceName", "give each service a name of its own", "two services are called %s, the first in line %d", api.Shorten(s.ServiceName), first)
		}
		taken[s.ServiceName] = s.Line
	}
	for i := range m.Services {
		s := &m.Services[i]
		if s.Type == "" {
			return wrong(s.Line, "Type", "write Type: php, for example", "service %d has no Type", i+1)
		}
		s.Type = strings.ToLower(s.Type)
		if s.ServiceName == "" {
			s.ServiceName = s.Type
			for n := 2; has(taken, s.ServiceName); n++ {
				s.ServiceName = s.Type + "-" + strconv.Itoa(n)
			}
			taken[s.ServiceName] = s.Line
		}
	}
	for _, s := range m.Services {
		if err := s.check(*m); err != nil {
			return err
		}
	}
	return nil
}

func has(names map[string]int, name string) bool {
	_, ok := names[name]
	return ok
}

// Wrong is the error of a field of a service. It names service, field and,
// where it is known, the line.
func (s Service) Wrong(field, hint, format string, args ...any) error {
	return wrong(s.Line, field, hint, "service %s: %s: %s", s.ServiceName, field, fmt.Sprintf(format, args...))
}

// In says of an error in which field of the service it is.
func (s Service) In(field string, err error) error {
	return inField(s.Line, "service "+s.ServiceName+": "+field, err)
}

func inField(line int, field string, err error) error {
	e := *api.AsError(err)
	where := field
	if line > 0 {
		where = "line " + strconv.Itoa(line) + ": " + field
	}
	e.Message = where + ": " + strings.TrimSpace(strings.TrimPrefix(strings.Join([]string{e.Op, e.Object}, " ")+": ", " : ")+e.Message)
	e.Op, e.Object = "read", "manifest"
	e.Fields = append([]string{field[strings.LastIndex(field, " ")+1:]}, e.Fields...)
	return &e
}

func (s Service) check(m Manifest) error {
	if err := api.CheckName("service", s.ServiceName); err != nil {
		return s.In("ServiceName", err)
	}
	for _, field := range []string{"Archive", "Dump", "StartupScript"} {
		source, ok := s.Sources()[field]
		if !ok {
			continue
		}
		if err := s.checkSource(field, source); err != nil {
			return err
		}
	}
	if err := s.checkFiles(); err != nil {
		return err
	}
	for _, name := range sortedKeys(s.Environment) {
		if s.Environment[name].Left {
			return s.Wrong("Environment."+name, "write its value, or {random: 32}, or download the manifest with its data", "its value was left out when the manifest was downloaded")
		}
	}
	for i, v := range s.Volumes {
		switch {
		case !volumeName.MatchString(v.Name):
			return s.Wrong("Volumes", "use 1 to 32 letters, digits, - and _", "%s cannot be the name of a volume", api.Shorten(v.Name))
		case v.Size <= 0:
			return s.Wrong("Volumes", "write Size: 2G, for example", "volume %s has no Size", v.Name)
		case slices.ContainsFunc(s.Volumes[:i], func(o Volume) bool { return o.Name == v.Name }):
			return s.Wrong("Volumes", "", "two volumes are called %s", v.Name)
		}
	}
	for _, name := range s.Bind {
		switch {
		case name == "*":
		case name == s.ServiceName:
			return s.Wrong("Bind", "name other services", "it cannot be bound to itself")
		case !slices.ContainsFunc(m.Services, func(o Service) bool { return o.ServiceName == name }):
			return s.Wrong("Bind", "there are: "+strings.Join(m.names(), ", "), "there is no service %s", api.Shorten(name))
		}
	}
	return nil
}

func (m Manifest) names() []string {
	var list []string
	for _, s := range m.Services {
		list = append(list, s.ServiceName)
	}
	return list
}

func (s Service) checkSource(field string, source Source) error {
	switch source.Kind {
	case SourceURL:
		u, err := url.Parse(source.Name)
		if err != nil || u.Host == "" || len(source.Name) > maxURL {
			return s.Wrong(field, "write it as https://host/path", "this is no URL: %s", api.Shorten(source.Name))
		}
		if u.User != nil {
			return s.Wrong(field, "fetch it yourself and send it beside the manifest", "URLs with a name or password in them are not taken")
		}
	case SourceDebian:
		switch {
		case !debianName.MatchString(source.Name):
			return s.Wrong(field, "write it as debian:wordpress", "this is no name of a Debian package: %s", api.Shorten(source.Name))
		case field == "Archive" && source.Path != "":
			return s.Wrong(field, "write "+debianPrefix+source.Name, "code is made of a whole package, not of a file in it")
		case field != "Archive" && !inside(source.Path):
			return s.Wrong(field, "write it as "+debianPrefix+source.Name+"/PATH", "it names no file of the package")
		}
	case SourceFile:
		if !inside(source.Name) {
			return s.Wrong(field, "write a URL, or the path of a file that is sent with the manifest, such as shop/code.tar.gz", "%s is neither", api.Shorten(source.Name))
		}
	case SourceText:
		if field != "StartupScript" {
			return s.Wrong(field, "write a URL, or the path of a file that is sent with the manifest", "it is a text of several lines")
		}
	}
	return nil
}

// inside reports whether a path stays below where it starts.
func inside(name string) bool {
	clean := path.Clean(name)
	return name != "" && len(name) <= maxURL && !path.IsAbs(clean) && clean != "." && clean != ".." && !strings.HasPrefix(clean, "../") && !strings.ContainsRune(name, '\\') && utf8.ValidString(name)
}

func (s Service) checkFiles() error {
	size := 0
	for name, text := range s.Files {
		if !inside(name) || path.Clean(name) != name {
			return s.Wrong("Files", "write paths such as conf/site.php", "%s cannot be a file of the code", api.Shorten(name))
		}
		size += len(text)
	}
	if len(s.Files) > maxFiles || size > maxFilesBytes {
		return s.Wrong("Files", "make an archive of them", "%d files of %d bytes are more than %d files or %d bytes", len(s.Files), size, maxFiles, maxFilesBytes)
	}
	return nil
}

// nameFrom makes a name of a description: its first words.
func nameFrom(description string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(description) {
		if b.Len() >= 32 {
			break
		}
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			b.WriteRune(r)
		} else if b.Len() > 0 && !strings.HasSuffix(b.String(), "-") {
			b.WriteByte('-')
		}
	}
	name := strings.Trim(b.String(), "-")
	if api.CheckName("application", name) != nil {
		return "application"
	}
	return name
}

func sortedKeys[T any](m map[string]T) []string {
	list := make([]string, 0, len(m))
	for k := range m {
		list = append(list, k)
	}
	sort.Strings(list)
	return list
}
