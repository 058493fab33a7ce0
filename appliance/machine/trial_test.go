package machine

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"nutshell/roles/api"
)

// delivered is the boot menu that an image comes with.
const delivered = "set timeout=0\nlinux /vmlinuz root=LABEL=nutshell ro quiet\ninitrd /initrd.img\nboot\n"

func TestBootMenu(t *testing.T) {
	args, entries, err := readMenu(delivered)
	if err != nil || args != "root=LABEL=nutshell ro quiet" || len(entries) != 1 || entries[0] != (entry{"as-delivered", "/vmlinuz", "/initrd.img"}) {
		t.Fatalf("got %q, %+v, %v", args, entries, err)
	}
	text := writeMenu(args, []entry{{"6.13", "/vmlinuz.a", "/initrd.a"}, entries[0]})
	again, both, err := readMenu(text)
	if err != nil || again != args || len(both) != 2 || both[0] != (entry{"6.13", "/vmlinuz.a", "/initrd.a"}) || both[1] != entries[0] {
		t.Errorf("got %q, %+v, %v from\n%s", again, both, err, text)
	}
	if _, _, err := readMenu("nothing"); err == nil {
		t.Error("a menu without a kernel is taken")
	}
}

// booted is a machine with a boot partition that is mounted.
func booted(t *testing.T) *bed {
	t.Helper()
	b := newBed(t)
	if err := b.write(bootDir+"/grub/grub.cfg", []byte(delivered), 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

// put installs a kernel, without making its initrd.
func (b *bed) put(t *testing.T, release string) {
	t.Helper()
	if err := b.putKernel([]byte("kernel "+release), []byte("initrd "+release), release, []byte(`{"release":"`+release+`"}`)); err != nil {
		t.Fatal(err)
	}
}

// starts are the kernels that the menu names, in the order of its entries,
// with what their files hold.
func (b *bed) starts(t *testing.T) []string {
	t.Helper()
	_, entries, err := readMenu(b.file(t, bootDir+"/grub/grub.cfg"))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		content := "as delivered"
		if e.kernel != "/vmlinuz" {
			content = b.file(t, bootDir+e.kernel)
			if want := strings.Replace(content, "kernel", "initrd", 1); b.file(t, bootDir+e.initrd) != want {
				t.Errorf("%s comes with the initrd %q", content, b.file(t, bootDir+e.initrd))
			}
		}
		list = append(list, content)
	}
	return list
}

func (b *bed) wants(t *testing.T, trial string, starts ...string) {
	t.Helper()
	if got := strings.Join(b.starts(t), ", "); got != strings.Join(starts, ", ") {
		t.Errorf("the menu has %s, not %s", got, strings.Join(starts, ", "))
	}
	env := b.file(t, grubEnv)
	if len(env) != grubEnvSize || !strings.HasPrefix(env, "# GRUB Environment Block\n") || strings.Contains(env, "trial="+trial+"\n") != (trial != "") || trial == "" && strings.Contains(env, "trial") {
		t.Errorf("the boot loader reads %d bytes: %.60q", len(env), env)
	}
}

func TestKernelThatWorksStays(t *testing.T) {
	b := booted(t)
	b.put(t, "6.13")
	b.wants(t, "new", "kernel 6.13", "as delivered")
	if err := b.SettleKernel(t.Context(), "6.13"); err != nil {
		t.Fatal(err)
	}
	b.wants(t, "", "kernel 6.13", "as delivered")
	if err := b.SettleKernel(t.Context(), "6.13"); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("settled twice: %v", err)
	}
	b.put(t, "6.14")
	b.wants(t, "new", "kernel 6.14", "kernel 6.13")
}

func TestKernelThatDoesNotStartIsLeft(t *testing.T) {
	b := booted(t)
	b.put(t, "6.13")
	if err := b.SettleKernel(t.Context(), "6.12"); err != nil {
		t.Fatal(err)
	}
	b.wants(t, "", "as delivered", "kernel 6.13")
	if _, err := os.Stat(b.path(trialPath)); err == nil {
		t.Error("it is still on trial")
	}
	b.put(t, "6.14") // in place of the one that failed
	b.wants(t, "new", "kernel 6.14", "as delivered")
}

func TestKernelUnderWhichNothingAnswers(t *testing.T) {
	b := booted(t)
	b.put(t, "6.13")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b.Health = func(context.Context) error { return errors.New("refused") }
	if err := b.SettleKernel(ctx, "6.13"); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(b.path(trialPath)); err != nil {
		t.Errorf("the next start cannot tell that it failed: %v", err)
	}
}

// TestTwoKernelsWithoutAStart: the second takes the place of the first, and
// the one that is known to work stays the second choice.
func TestTwoKernelsWithoutAStart(t *testing.T) {
	b := booted(t)
	b.put(t, "6.13")
	if err := b.SettleKernel(t.Context(), "6.13"); err != nil {
		t.Fatal(err)
	}
	b.put(t, "6.14")
	b.put(t, "6.15")
	b.wants(t, "new", "kernel 6.15", "kernel 6.13")
}

// TestPowerCutWhileAKernelIsPut: each moment leaves a menu whose first or
// second kernel is whole.
func TestPowerCutWhileAKernelIsPut(t *testing.T) {
	b := booted(t)
	b.put(t, "6.13")
	if err := b.SettleKernel(t.Context(), "6.13"); err != nil {
		t.Fatal(err)
	}
	// Cut behind the mark, before the menu: the machine starts with what it had.
	if err := errors.Join(b.write(trialPath, []byte(`{"release":"6.14"}`), 0o600), b.setTrial("tried")); err != nil {
		t.Fatal(err)
	}
	if err := b.SettleKernel(t.Context(), "6.13"); err != nil {
		t.Fatal(err)
	}
	b.wants(t, "", "kernel 6.13", "as delivered")
}
