package php_test

import (
	"testing"

	"nutshell/services/php"
	"nutshell/services/servicetest"
)

func TestMain(m *testing.M) { servicetest.Main(m, php.Kind()) }
