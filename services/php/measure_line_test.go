package php

import (
	"testing"
	"time"
)

func TestPageRequest(t *testing.T) {
	q, ok := pageRequest([]byte(`127.0.0.1 22/Nov/2026:09:36:31 +0000 "GET /a"b.php?x" 200 12.345ms 2048kB 3.20%`))
	if !ok || q.Status != 200 || q.Took != 12345*time.Microsecond {
		t.Errorf("got %+v %v", q, ok)
	}
	if q, ok := pageRequest([]byte(`NOTICE: "ready`)); ok {
		t.Errorf("a notice is %+v", q)
	}
}
