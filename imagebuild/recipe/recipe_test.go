package recipe

import (
	"strings"
	"testing"
)

func TestEmbeddedRecipesAreValid(t *testing.T) {
	if len(Names()) < 2 {
		t.Fatalf("got recipes %v, want base and kind at least", Names())
	}
	for _, name := range Names() {
		r, err := Load(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := Chain(r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ name, yaml, want string }{
		{"unknown-key", "name: a\npackage: [x1]\n", `no key "package" of a recipe; there are name`},
		{"no-name", "packages: [nginx-light]\n", "name is missing"},
		{"apt-option", "name: a\npackages: ['-oDir=/x']\n", "not the name of a Debian package"},
		{"removal", "name: a\npackages: ['libc6-']\n", "not the name of a Debian package"},
		{"forced-install", "name: a\npackages: ['nginx+']\n", "not the name of a Debian package"},
		{"blank", "name: a\npackages: ['a b']\n", "not the name of a Debian package"},
		{"climbing-path", "name: a\nremove: ['/etc/../../x']\n", "not a clean absolute path"},
		{"relative-path", "name: a\ndirectories: [etc]\n", "not a clean absolute path"},
		{"whole-image", "name: a\nempty: [/]\n", "not a clean absolute path"},
		{"two-documents", "name: a\n---\nname: b\n", "more than one document"},
		{"component-without-unpack", "name: a\ncomponents: [non-free-firmware]\n", "go with it"},
		{"unpack-above-another", "name: a\ninherits: base\nunpack: true\n", "lowest layer"},
		{"strange-component", "name: a\nunpack: true\ncomponents: ['main b']\n", "not one of"},
		{"backport-of-nothing", "name: a\nunpack: true\nbackports: [x1]\n", "not among"},
		{"empty", "", "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse([]byte(c.yaml))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestParseAcceptsPackages(t *testing.T) {
	for _, p := range []string{"nginx-light", "g++", "libstdc++6", "php8.4-fpm", "python3.13"} {
		if _, err := Parse([]byte("name: a\npackages: [" + p + "]\n")); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestChain(t *testing.T) {
	r, err := ForKind("php", []string{"nginx-light"})
	if err != nil {
		t.Fatal(err)
	}
	chain, err := Chain(r)
	if err != nil {
		t.Fatal(err)
	}
	if len(chain) != 2 || chain[0].Name != "base" || chain[1].Name != "php" {
		t.Errorf("got %v, want base below php", chain)
	}
	r.Inherits = "nothing"
	if _, err := Chain(r); err == nil || !strings.Contains(err.Error(), `no recipe "nothing"`) {
		t.Errorf("got error %v, want one that names the missing recipe", err)
	}
}

func TestDigest(t *testing.T) {
	make := func(kind string, packages ...string) Recipe {
		r, err := ForKind(kind, packages)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	want := make("php", "nginx-light", "php-fpm").Digest("b", "trixie", "amd64")
	newer := make("php", "nginx-light", "php-fpm")
	newer.Version++
	for _, c := range []struct {
		name string
		got  string
		same bool
	}{
		{"other-order", make("php", "php-fpm", "nginx-light").Digest("b", "trixie", "amd64"), true},
		{"twice-named", make("php", "php-fpm", "nginx-light", "php-fpm").Digest("b", "trixie", "amd64"), true},
		{"other-name", make("wiki", "nginx-light", "php-fpm").Digest("b", "trixie", "amd64"), true},
		{"other-packages", make("php", "nginx-light").Digest("b", "trixie", "amd64"), false},
		{"other-base", make("php", "nginx-light", "php-fpm").Digest("c", "trixie", "amd64"), false},
		{"other-suite", make("php", "nginx-light", "php-fpm").Digest("b", "bookworm", "amd64"), false},
		{"other-arch", make("php", "nginx-light", "php-fpm").Digest("b", "trixie", "arm64"), false},
		{"newer-recipe", newer.Digest("b", "trixie", "amd64"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if (c.got == want) != c.same {
				t.Errorf("got equal %v, want %v", c.got == want, c.same)
			}
		})
	}
}
