package mysql

import (
	"testing"

	"nutshell/services/servicetest"
)

// TestMain lets this program be the kind's tools.
func TestMain(m *testing.M) { servicetest.Main(m, Kind()) }
