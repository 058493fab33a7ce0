package java

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"nutshell/roles/api"
	"nutshell/services"
	"nutshell/services/web"
)

const (
	migrateTime = 5 * time.Minute
	migrateLog  = "migration.log"
	migrateJar  = "/usr/share/tomcat-jakartaee-migration/lib/*"
)

// application is the directory that Tomcat runs of a version: its code, or
// what was made of it for Jakarta EE.
func (p *pager) application(ctx context.Context, root web.Root, s settings) (string, error) {
	f, _, err := p.known.of(root.Dir)
	if err != nil || f.JavaEE == "" {
		return root.Dir, err
	}
	if s.Javax == refuseJavax {
		return "", &api.Error{Code: api.CodeInvalid, Op: "read application", Object: "version " + root.Version,
			Message: "it was written for Java EE: " + api.Shorten(f.JavaEE) + " uses javax.servlet, and Tomcat 10 knows jakarta.servlet only",
			Hint:    "set javax to migrate, or build it for Jakarta EE 9 or later"}
	}
	final := filepath.Join(p.migrated(), filepath.Base(root.Dir))
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	return final, p.migrate(ctx, root, f, final)
}

// migrate runs Tomcat's own tool as the unprivileged account. It ends with a
// rename, so a directory that exists is whole.
func (p *pager) migrate(ctx context.Context, root web.Root, f facts, final string) error {
	java, err := p.m.Program("java", "default-jre-headless")
	if err != nil {
		return err
	}
	if found, err := filepath.Glob(migrateJar + ".jar"); err != nil || len(found) == 0 {
		return &api.Error{Code: api.CodeUnavailable, Op: "migrate", Object: "version " + root.Version, Message: "it was written for Java EE, and the migration tool is not installed on this machine",
			Hint: "install Debian's package tomcat-jakartaee-migration: apt-get install tomcat-jakartaee-migration"}
	}
	p.m.Log().Info("migrating an application from Java EE to Jakarta EE", "version", root.Version, "because_of", f.JavaEE)
	tmp := final + ".new"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.MkdirAll(p.migrated(), 0o755); err != nil { // Tomcat's account reads it
		return err
	}
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return err
	}
	if _, uid, gid, ok := p.m.User(); ok {
		if err := os.Chown(tmp, uid, gid); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, migrateTime)
	defer cancel()
	begin := fileEnd(filepath.Join(p.m.Dir("log"), migrateLog))
	exit, err := p.m.Supervisor().Run(ctx, services.Process{Name: "migrate", User: true, Dir: tmp, Log: migrateLog, Describe: "migrations of applications from Java EE to Jakarta EE",
		Argv: []string{java, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.io.tmpdir=" + tmp, "-cp", migrateJar, "org.apache.tomcat.jakartaee.MigrationCLI", "-logLevel=WARNING", root.Dir, tmp}})
	if err == nil && exit != 0 {
		err = fmt.Errorf("the tool ended with status %d", exit)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_, lines := rootCause(fileSince(filepath.Join(p.m.Dir("log"), migrateLog), begin))
		return errors.Join(&api.Error{Code: api.CodeInvalid, Op: "migrate", Object: "version " + root.Version, Message: "it was written for Java EE and could not be migrated", Err: err, LogTail: lines,
			Hint: "build it for Jakarta EE 9 or later; see the log " + migrateLog}, os.RemoveAll(tmp))
	}
	return os.Rename(tmp, final)
}

// keepMigrated forgets all versions but those.
func (p *pager) keepMigrated(roots []web.Root) error {
	entries, err := os.ReadDir(p.migrated())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if !slices.ContainsFunc(roots, func(r web.Root) bool { return filepath.Base(r.Dir) == strings.TrimSuffix(e.Name(), ".new") }) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(p.migrated(), e.Name())))
		}
	}
	return err
}
