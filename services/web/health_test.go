package web

import "testing"

func TestHealthStatus(t *testing.T) {
	tests := []struct {
		name, status string
		valid        bool
		good, bad    []int
	}{
		{"default", DefaultHealth().Status, true, []int{200, 302, 404, 499}, []int{500, 199}},
		{"strict", "200", true, []int{200}, []int{201, 199}},
		{"several", "200-299,301,404", true, []int{204, 301, 404}, []int{302, 300, 500}},
		{"backwards", "300-200", false, nil, []int{250}},
		{"beyond", "200-700", false, nil, nil},
		{"below", "000-200", false, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := Health{Status: tt.status}
			if err := h.Validate(); (err == nil) != tt.valid {
				t.Errorf("valid: got %v, want %v", err, tt.valid)
			}
			for _, s := range tt.good {
				if !h.Good(s) {
					t.Errorf("%d is not good", s)
				}
			}
			for _, s := range tt.bad {
				if h.Good(s) {
					t.Errorf("%d is good", s)
				}
			}
		})
	}
}
