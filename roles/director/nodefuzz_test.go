package director

import (
	"encoding/json"
	"math"
	"net/netip"
	"testing"
	"unicode"
	"unicode/utf8"

	"nutshell/roles/api"
)

// FuzzFacts: whatever a machine says of itself can be shown, is short, and
// gives it a name.
func FuzzFacts(f *testing.F) {
	f.Add([]byte(`{"name":"pi\u001b[2J","serial":"10000000abcdef12","model":"Raspberry Pi 4 Model B","networks":["10.0.0.0/8","0.0.0.0/0"],"layers":["../x"],"load":1e308,"memory":-1,"port":99999}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var in api.NodeFacts
		if json.Unmarshal(b, &in) != nil {
			return
		}
		got := cleanFacts(in)
		for _, text := range []string{got.Name, got.Serial, got.Model, got.Arch, got.Version, got.Problem} {
			if len(text) > mostText || !utf8.ValidString(text) {
				t.Fatalf("text %q", text)
			}
			for _, r := range text {
				if !unicode.IsPrint(r) {
					t.Fatalf("text %q", text)
				}
			}
		}
		if math.IsNaN(got.Load) || got.Load < 0 || got.Memory < 0 || got.MemoryFree < 0 || got.Disk < 0 || got.Port < 0 || got.Port > 65535 {
			t.Fatalf("figures %+v", got)
		}
		for _, n := range got.Networks {
			if p, err := netip.ParsePrefix(n); err != nil || p.Bits() < 8 {
				t.Fatalf("network %q", n)
			}
		}
		if name := waitingName(got, "n234567abcdef"); api.CheckName("node", name) != nil {
			t.Fatalf("name %q of %+v", name, got)
		}
		if len(got.Networks) > mostNetworks || len(got.Layers) > mostNodeLayers {
			t.Fatalf("%d networks, %d layers", len(got.Networks), len(got.Layers))
		}
	})
}

// FuzzFindAnswer: nobody makes us send more than they did.
func FuzzFindAnswer(f *testing.F) {
	f.Add([]byte(`{"nutshell":"node","nonce":"x","pad":"` + string(make([]byte, 0)) + `"}`))
	f.Fuzz(func(t *testing.T, question []byte) {
		d := &Director{}
		if answer := d.findAnswer(question, netip.MustParseAddr("203.0.113.9")); answer != nil {
			t.Fatalf("an answer for a stranger: %q", answer)
		}
	})
}
