package mysql

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/klauspost/compress/zstd"

	"nutshell/roles/api"
	"nutshell/services/servicetest"
)

// loads loads a dump and tells what came of it.
func loads(t *testing.T, w *servicetest.World, r io.Reader, args map[string]string) (string, error) {
	t.Helper()
	result, err := w.Receive(within2(t, time.Minute), actionLoad, args, r)
	return result.Text, err
}

func TestDumps(t *testing.T) {
	w := servicetest.New(t, Kind())
	ctx := within2(t, 4*time.Minute)
	must(t, w.Settle(ctx))
	db := open(t, w)

	t.Run("all-kinds-of-things-come-back", func(t *testing.T) {
		text, err := loads(t, w, strings.NewReader(richDump), nil)
		must(t, err)
		t.Log(text)
		if !strings.Contains(text, "left out") {
			t.Errorf("nothing is said to be left out: %s", text)
		}
		var out bytes.Buffer
		_, err = w.Send(ctx, actionDump, nil, &out)
		must(t, err)
		dump := out.String()
		for _, want := range []string{"CREATE DATABASE", "CREATE TABLE `notes`", "ENGINE=InnoDB", "it''s", "0x00FF", "TRIGGER", "PROCEDURE", "EVENT", "VIEW", "-- Dump completed", "🐚"} {
			if !strings.Contains(dump, want) && (want != "it''s" || !strings.Contains(dump, `it\'s`)) {
				t.Errorf("the dump has no %s", want)
			}
		}
		for _, not := range []string{"global_priv", "mariadb.sys", "MyISAM"} {
			if strings.Contains(dump, not) {
				t.Errorf("the dump has %s", not)
			}
		}
		_, err = db.ExecContext(ctx, "DROP DATABASE rich")
		must(t, err)
		_, err = loads(t, w, strings.NewReader(dump), nil)
		must(t, err)
		if n := count(t, db, "rich.notes"); n != 3 {
			t.Errorf("%d rows, want 3", n)
		}
		var who string
		must(t, db.QueryRowContext(ctx, "SELECT DEFINER FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'rich'").Scan(&who))
		if who != "mysqldb@%" {
			t.Errorf("the trigger is %s's", who)
		}
	})

	t.Run("packed", func(t *testing.T) {
		var zipped, packed bytes.Buffer
		z := gzip.NewWriter(&zipped)
		_, _ = io.WriteString(z, "CREATE TABLE IF NOT EXISTS zipped (x INT);")
		must(t, z.Close())
		p, err := zstd.NewWriter(&packed)
		must(t, err)
		_, _ = io.WriteString(p, "CREATE TABLE packed (x INT);")
		must(t, p.Close())
		whole := bytes.Clone(zipped.Bytes())
		_, err = loads(t, w, &zipped, nil)
		must(t, err)
		_, err = loads(t, w, &packed, map[string]string{"database": "app"})
		must(t, err)
		if n := count(t, db, "app.zipped") + count(t, db, "app.packed"); n != 0 {
			t.Errorf("%d rows", n)
		}
		if _, err := loads(t, w, bytes.NewReader(whole[:len(whole)-9]), nil); err == nil || !strings.Contains(err.Error(), "broken off") {
			t.Errorf("cut off: %v", err)
		}
	})

	t.Run("one-database-into-another", func(t *testing.T) {
		_, err := loads(t, w, strings.NewReader("CREATE DATABASE copy"), nil)
		must(t, err)
		var out bytes.Buffer
		_, err = w.Send(ctx, actionDump, map[string]string{"database": "rich"}, &out)
		must(t, err)
		_, err = loads(t, w, &out, map[string]string{"database": "copy"})
		must(t, err)
		if n := count(t, db, "copy.notes"); n != 3 {
			t.Errorf("%d rows", n)
		}
	})

	refusals(t, w)

	t.Run("large-and-flat", func(t *testing.T) {
		const rows = 100_000 // in one statement
		parts := []io.Reader{strings.NewReader("CREATE TABLE large (x INT, y CHAR(40)) ENGINE=MyISAM;\nSET autocommit=0;\nINSERT INTO large VALUES ")}
		for n := range rows {
			sep := ","
			if n == rows-1 {
				sep = ";\nCOMMIT;"
			}
			parts = append(parts, strings.NewReader(fmt.Sprintf("(%d,'%040d')%s", n, n, sep)))
		}
		began := time.Now()
		text, err := loads(t, w, io.MultiReader(parts...), nil)
		must(t, err)
		t.Logf("%s in %v", text, time.Since(began))
		if n := count(t, db, "app.large"); n != rows {
			t.Errorf("%d rows", n)
		}
	})
}

// refusals are dumps that must not be loaded, or not beyond a line.
func refusals(t *testing.T, w *servicetest.World) {
	db := open(t, w)
	for name, c := range map[string]struct {
		dump, want string
		args       map[string]string
	}{
		"error-at-a-line":       {"CREATE TABLE good (x INT);\n\n-- here\nINSERT INTO nowhere\nVALUES (1);\nCREATE TABLE never (x INT);", "line 4", nil},
		"statement-is-shown":    {"SELECT 1;\nINSERT INTO nowhere VALUES ('x');", "INSERT INTO nowhere", nil},
		"binary":                {"\x7fELF\x00\x01\x02", "no SQL dump", nil},
		"empty":                 {"", "empty", nil},
		"only-comments":         {"-- nothing\n", "no statement", nil},
		"postgresql":            {"--\n-- PostgreSQL database dump\n--\nSET x=1;", "PostgreSQL", nil},
		"zip":                   {"PK\x03\x04abcd", "zip", nil},
		"utf-16":                {"\xff\xfeC\x00R\x00", "UTF-16", nil},
		"ends-in-a-string":      {"SELECT 1;\nINSERT INTO t VALUES ('abc", "broken off", nil},
		"no-end-mark":           {"-- MariaDB dump 10.19\nSELECT 1;\n", "Dump completed", nil},
		"cut-statement":         {"-- MySQL dump 10.13\nDELETE FROM app.good WHERE x = 1", "Dump completed", nil},
		"files":                 {"SELECT 1 INTO OUTFILE '/tmp/x';", "line 1", nil},
		"reads-files":           {"CREATE TABLE f (x TEXT);\nLOAD DATA INFILE '/etc/passwd' INTO TABLE f;", "line 2", nil},
		"local-files":           {"LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE f;", "line 1", nil},
		"shutdown":              {"SHUTDOWN;", "line 1", nil},
		"global":                {"SET GLOBAL wsrep_on = OFF;", "line 1", nil},
		"no-replication":        {"SET SESSION wsrep_on = OFF;", "line 1", nil},
		"own-accounts":          {"UPDATE mysql.global_priv SET Priv = '{}';", "server's own tables", nil},
		"several-in-one":        {"DELIMITER //\nSELECT 1; SELECT 2//", "line 2", nil},
		"client-commands":       {"SELECT 1;\n\\! touch /tmp/x\n;", "line 2", nil},
		"system-command":        {"system touch /tmp/x;", "line 1", nil},
		"source":                {"source /etc/passwd;", "line 1", nil},
		"gbk":                   {"SET NAMES gbk;\nSELECT 1;", "gbk", nil},
		"two-databases":         {"USE mysql2;\nSELECT 1;", "you named app", map[string]string{"database": "app"}},
		"database-is-not-there": {"SELECT 1;", "no such database", map[string]string{"database": "none"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := loads(t, w, strings.NewReader(c.dump), c.args)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if n := count(t, db, "app.good"); n != 0 {
		t.Errorf("what stood before the wrong line is not loaded: %d", n)
	}
	_, err := loads(t, w, io.MultiReader(strings.NewReader("CREATE TABLE before_break (x INT);\nSEL"), iotest.ErrReader(errors.New("connection reset"))), nil)
	if err == nil || !strings.Contains(err.Error(), "broken off") || !strings.Contains(err.Error(), "connection reset") {
		t.Errorf("broken upload: %v", err)
	}
	_ = count(t, db, "app.before_break")
	servicetest.Code(t, err, api.CodeInvalid)
}

const richDump = `-- MySQL dump 10.13  Distrib 8.0.36, for Linux (x86_64)
/*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */;
/*!50503 SET NAMES utf8mb4 */;
/*!40014 SET @OLD_FOREIGN_KEY_CHECKS=@@FOREIGN_KEY_CHECKS, FOREIGN_KEY_CHECKS=0 */;
/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;
SET @MYSQLDUMP_TEMP_LOG_BIN = @@SESSION.SQL_LOG_BIN;
SET @@SESSION.SQL_LOG_BIN= 0;
SET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ '3E11FA47-71CA-11E1-9E33-C80AA9429562:1-5';
CREATE DATABASE /*!32312 IF NOT EXISTS*/ ` + "`rich`" + ` /*!40100 DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci */ /*!80016 DEFAULT ENCRYPTION='N' */;
USE ` + "`rich`" + `;
DROP TABLE IF EXISTS notes;
CREATE TABLE notes (id INT NOT NULL AUTO_INCREMENT, what VARCHAR(100) COLLATE utf8mb4_0900_ai_ci, raw BLOB, PRIMARY KEY (id)) ENGINE=MyISAM DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci;
LOCK TABLES notes WRITE;
/*!40000 ALTER TABLE notes DISABLE KEYS */;
INSERT INTO notes VALUES (1,'it\'s; here',0x00FF),(2,'-- "no comment"','\0\'\\'),(3,'🐚 /* no */',NULL);
/*!40000 ALTER TABLE notes ENABLE KEYS */;
UNLOCK TABLES;
DELIMITER ;;
/*!50003 CREATE*/ /*!50017 DEFINER=` + "`root`@`localhost`" + `*/ /*!50003 TRIGGER t BEFORE INSERT ON notes FOR EACH ROW BEGIN
  SET NEW.what = CONCAT(NEW.what, ';');
  SET @n = 1;
END */;;
CREATE DEFINER=` + "`app`@`10.0.%`" + ` PROCEDURE p() BEGIN SELECT 1; SELECT ';'; END ;;
CREATE DEFINER=` + "`root`@`localhost`" + ` EVENT e ON SCHEDULE EVERY 1 DAY DO DELETE FROM notes WHERE id > 1000 ;;
DELIMITER ;
/*!50001 CREATE ALGORITHM=UNDEFINED */
/*!50013 DEFINER=` + "`root`@`localhost`" + ` SQL SECURITY DEFINER */
/*!50001 VIEW v AS SELECT id FROM notes */;
GRANT ALL ON *.* TO 'somebody'@'%';
CREATE DATABASE /*!32312 IF NOT EXISTS*/ ` + "`mysql`" + `;
USE ` + "`mysql`" + `;
DROP TABLE IF EXISTS ` + "`global_priv`" + `;
FLUSH PRIVILEGES;
SET @@SESSION.SQL_LOG_BIN = @MYSQLDUMP_TEMP_LOG_BIN;
/*!40101 SET SQL_MODE=@OLD_SQL_MODE */;
-- Dump completed on 2026-11-22 12:00:00
`
