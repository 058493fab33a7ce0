package java_test

import (
	"testing"

	"nutshell/services/java"
	"nutshell/services/servicetest"
)

// TestMain lets this program be the session store of the kind, too.
func TestMain(m *testing.M) { servicetest.Main(m, java.Kind()) }
