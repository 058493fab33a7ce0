package mysql

import "testing"

func TestJudge(t *testing.T) {
	for text, want := range map[string]fate{
		"INSERT INTO t VALUES (1)":                            sendIt,
		"CREATE TABLE `mysql` (x INT)":                        sendIt,
		"INSERT INTO t VALUES ('mysql.user')":                 sendIt,
		"SET autocommit=0":                                    leaveOut,
		"/*!40101 SET @OLD=@@AUTOCOMMIT, @@AUTOCOMMIT=0 */":   leaveOut,
		"SET AUTOCOMMIT = 0":                                  leaveOut,
		"SET AUTOCOMMIT=@OLD_AUTOCOMMIT":                      leaveOut, // its value was left out with what stands above
		"SET autocommit=1":                                    sendIt,
		"START TRANSACTION":                                   leaveOut,
		"BEGIN":                                               leaveOut,
		"COMMIT":                                              sendIt,
		"SET @@SESSION.SQL_LOG_BIN= 0":                        leaveOut,
		"SET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ 'a:1-2'":     leaveOut,
		"GRANT ALL ON *.* TO x":                               noAccounts,
		"/*!50003 CREATE USER x */":                           noAccounts,
		"SET PASSWORD FOR root = PASSWORD('x')":               noAccounts,
		"FLUSH PRIVILEGES":                                    leaveOut,
		"INSERT INTO `mysql`.`global_priv` VALUES (1)":        systemData,
		"insert into mysql . user values (1)":                 systemData,
		"-- a\nUPDATE mysql.user SET x=1":                     systemData,
		"/* a */ /*!40000 DROP TABLE IF EXISTS mysql.user */": systemData,
		"DROP DATABASE mysql":                                 systemData,
		"CREATE DATABASE /*!32312 IF NOT EXISTS*/ `mysql` /*!40100 DEFAULT CHARACTER */": systemData,
		"CREATE DATABASE /*!32312 IF NOT EXISTS*/ `mysql2`":                              sendIt,
		"DROP DATABASE IF EXISTS `sys`":                                                  systemData,
		"SELECT * FROM mysql.user":                                                       sendIt,
	} {
		if got := judge(headOf([]byte(text))); got != want {
			t.Errorf("%s: got %d, want %d", text, got, want)
		}
	}
}

func TestUse(t *testing.T) {
	for text, want := range map[string]string{"USE `a b`": "a b", "use shop": "shop", "USE `x``y`": "x`y", "/*!1 USE */ x": "", "USED": "", "SELECT 1": ""} {
		if got, _ := used(headOf([]byte(text))); got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

func TestAdapt(t *testing.T) {
	for text, want := range map[string]string{
		"CREATE DEFINER=`root`@`localhost` TRIGGER x BEFORE INSERT ON t FOR EACH ROW SET @a='DEFINER=x@y'":  "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW SET @a='DEFINER=x@y'",
		"/*!50001 CREATE ALGORITHM=UNDEFINED */ /*!50013 DEFINER=`a``b`@`%` SQL SECURITY DEFINER */ VIEW x": "/*!50001 CREATE ALGORITHM=UNDEFINED */ /*!50013 SQL SECURITY DEFINER */ VIEW x",
		"CREATE DEFINER = 'it\\'s'@'10.%' PROCEDURE p() SELECT 1":                                           "CREATE PROCEDURE p() SELECT 1",
		"CREATE DEFINER=root@localhost EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1":                         "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1",
		"CREATE DEFINER=CURRENT_USER() FUNCTION f() RETURNS INT RETURN 1":                                   "CREATE FUNCTION f() RETURNS INT RETURN 1",
		"CREATE TABLE t (x INT COMMENT 'ENGINE=MyISAM') ENGINE=MyISAM COLLATE=utf8mb4_0900_ai_ci":           "CREATE TABLE t (x INT COMMENT 'ENGINE=MyISAM') ENGINE=InnoDB COLLATE=utf8mb4_uca1400_ai_ci",
		"CREATE TABLE `ENGINE=MyISAM` (x INT COLLATE utf8mb4_0900_bin) engine myisam":                       "CREATE TABLE `ENGINE=MyISAM` (x INT COLLATE utf8mb4_bin) engine InnoDB",
		"/*!50003 SET collation_connection = utf8mb4_0900_as_cs */":                                         "/*!50003 SET collation_connection = utf8mb4_uca1400_as_cs */",
		"INSERT INTO t VALUES ('ENGINE=MyISAM'), (\"DEFINER=a@b\")":                                         "INSERT INTO t VALUES ('ENGINE=MyISAM'), (\"DEFINER=a@b\")",
		"CREATE TABLE t (x INT) /* ENGINE=MyISAM */ ENGINE=InnoDB # ENGINE=MyISAM":                          "CREATE TABLE t (x INT) /* ENGINE=MyISAM */ ENGINE=InnoDB # ENGINE=MyISAM",
		"ALTER TABLE t ENGINE = Aria": "ALTER TABLE t ENGINE = InnoDB",
		"CREATE TABLE t (a VARCHAR(9) COLLATE utf8mb4_de_pb_0900_as_cs, b TEXT COLLATE utf8mb4_es_0900_ai_ci)": "CREATE TABLE t (a VARCHAR(9) COLLATE utf8mb4_uca1400_as_cs, b TEXT COLLATE utf8mb4_uca1400_ai_ci)",
	} {
		if got := string(adapt([]byte(text), headOf([]byte(text)), false)); got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	}
}
