// Package card is what a Raspberry Pi does at each start before it is a node:
// it grows its root file system to the card, reads the settings that people
// wrote on the card's first partition, and sets name, network and ssh keys by
// them. All of it may be cut off by the power at any moment and is done again
// at the next start.
package card

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"nutshell/roles/internal/rootdisk"
)

// Config says where things are. Empty paths are those of the machine.
type Config struct {
	Boot string    // where the FAT32 partition is, or gets mounted
	Run  string    // what is for this start only, in memory
	Keep string    // file for the address that was taken last
	Say  io.Writer // the machine's own screen
	// Host sets the machine's name; nil: leaves it.
	Host func(name string) error
}

// Names of files on the FAT32 partition.
const (
	settingsFile = "nutshell.txt"
	errorsFile   = "nutshell-errors.txt"
)

// Prepare does all of it. What goes wrong in one thing does not keep the
// others: a node that can be asked for help is better than none. The error
// joins all that went wrong.
func Prepare(ctx context.Context, c Config) error {
	disk, diskErr := rootdisk.Find("/")
	var errs []error
	if diskErr != nil {
		errs = append(errs, fmt.Errorf("find the card: %w", diskErr))
	} else {
		if grown, err := disk.Grow(); err != nil {
			errs = append(errs, fmt.Errorf("grow to the card: %w", err))
		} else if grown > 0 {
			fmt.Fprintf(c.Say, "Nutshell: the card has %.1f GB, all of them are used now\n", float64(grown)/1e9)
		}
		if err := mountBoot(disk, c.Boot); err != nil {
			errs = append(errs, fmt.Errorf("read the settings: %w", err))
		}
	}
	text, err := readSome(filepath.Join(c.Boot, settingsFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	s, problems := Parse(text)
	s, problem := fixed(ctx, s, alone)
	if problem != "" {
		problems = append(problems, problem)
	}
	for _, p := range problems {
		fmt.Fprintf(c.Say, "Nutshell: %s: %s\n", settingsFile, p)
	}
	if err := tellProblems(c.Boot, problems); err != nil {
		errs = append(errs, fmt.Errorf("write %s: %w", errorsFile, err))
	}
	return errors.Join(append(errs, c.apply(ctx, s))...)
}

// apply puts settings into force.
func (c Config) apply(ctx context.Context, s Settings) error {
	var errs []error
	if s.Name != "" && c.Host != nil {
		errs = append(errs, c.Host(s.Name))
	}
	var own netip.Prefix
	if s.Mode == Auto {
		var err error
		if own, err = c.take(ctx); err != nil {
			errs = append(errs, fmt.Errorf("choose an address: %w", err))
		}
	}
	errs = append(errs, write(filepath.Join(c.Run, "systemd/network/20-card.network"), network(s, own), 0o644),
		write(filepath.Join(c.Run, "nutshell/card.env"), environment(s), 0o644))
	if len(s.SSHKeys) > 0 {
		errs = append(errs, write(filepath.Join(c.Run, "nutshell/authorized_keys/root"), strings.Join(s.SSHKeys, "\n")+"\n", 0o644))
	}
	return errors.Join(errs...)
}

// fixed gives up an address of the settings that another machine has: both
// would be out of reach by turns. Where nobody can be asked it stays.
func fixed(ctx context.Context, s Settings, alone func(context.Context, netip.Addr) bool) (Settings, string) {
	if s.Mode != Static || alone(ctx, s.Address.Addr()) {
		return s, ""
	}
	problem := fmt.Sprintf("address %s: another machine on this network has it; a free one is taken until the next start. Set another here, or switch that machine off", s.Address.Addr())
	s.Mode, s.Address, s.Gateway = Auto, netip.Prefix{}, netip.Addr{}
	return s, problem
}

// alone reports whether nobody on the network says that an address is theirs.
func alone(ctx context.Context, a netip.Addr) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if linkUp(ctx) != nil {
		return true
	}
	free, err := probe(ctx, []netip.Addr{a}, patient)
	return err != nil || free.IsValid()
}

// take chooses a free address of the cluster's range, the same as last time if
// it can.
func (c Config) take(ctx context.Context) (netip.Prefix, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	last, _ := os.ReadFile(c.Keep)
	kept, _ := netip.ParseAddr(strings.TrimSpace(string(last)))
	err := linkUp(ctx)
	mac, list := candidates(kept)
	took := list[0] // on a network that cannot be asked: what it was, or would be
	if err == nil {
		var free netip.Addr
		switch free, err = probe(ctx, list, briefly); {
		case err == nil && !free.IsValid():
			return netip.Prefix{}, errors.New("all of 172.16.0.11 to .31 are taken; set an address in " + settingsFile)
		case err == nil:
			took = free
		}
	}
	if err != nil {
		err = fmt.Errorf("%s (%s): %w", took, mac, err)
	}
	if took != kept {
		err = errors.Join(err, write(c.Keep, took.String()+"\n", 0o644))
	}
	return netip.PrefixFrom(took, planBits), err
}

// network is the file for systemd-networkd.
func network(s Settings, own netip.Prefix) string {
	var b strings.Builder
	b.WriteString("[Match]\nName=eth0\n\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n")
	if s.Mode == Static {
		own = s.Address
	} else {
		b.WriteString("DHCP=ipv4\n")
	}
	if own.IsValid() {
		fmt.Fprintf(&b, "Address=%s\n", own)
	}
	for _, d := range s.DNS {
		fmt.Fprintf(&b, "DNS=%s\n", d)
	}
	gateway := s.Gateway
	if s.Mode == Auto && !gateway.IsValid() && own.IsValid() {
		gateway = planGateway // worse than one that DHCP names
	}
	if gateway.IsValid() {
		fmt.Fprintf(&b, "\n[Route]\nGateway=%s\nMetric=2048\n", gateway)
	}
	b.WriteString("\n[DHCPv4]\nUseHostname=no\nUseDomains=no\n")
	return b.String()
}

// environment is what the node's unit gives to the node.
func environment(s Settings) string {
	var args []string
	for _, a := range []struct{ flag, value string }{{"--director", s.Director}, {"--ca-sha256", s.CA}, {"--name", s.Name}} {
		if a.value != "" {
			args = append(args, a.flag, a.value) // Parse lets no blanks and quotes through
		}
	}
	return "NODE_ARGS=" + strings.Join(args, " ") + "\n"
}

// tellProblems leaves a file beside the settings for those who have only the
// card and a computer. It writes only when something changes.
func tellProblems(boot string, problems []string) error {
	file := filepath.Join(boot, errorsFile)
	want := ""
	if len(problems) > 0 {
		want = "These lines of " + settingsFile + " were not followed at the last start:\r\n\r\n" + strings.Join(problems, "\r\n") + "\r\n"
	}
	have, err := readSome(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if string(have) == want && (want != "" || errors.Is(err, fs.ErrNotExist)) {
		return nil
	}
	return writable(boot, func() error {
		if want == "" {
			return os.Remove(file)
		}
		return write(file, want, 0o644)
	})
}

// mountBoot mounts the first partition of the card, read-only.
func mountBoot(d rootdisk.Disk, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	err := unix.Mount(d.Partition(1), dir, "vfat", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "umask=0022,errors=remount-ro")
	if errors.Is(err, unix.EBUSY) { // a second run in one start
		return nil
	}
	return err
}

// writable makes the boot partition writable as long as do runs.
func writable(dir string, do func() error) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	const flags = unix.MS_REMOUNT | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if st.Flags&unix.ST_RDONLY == 0 {
		return do()
	}
	if err := unix.Mount("", dir, "", flags, ""); err != nil {
		return err
	}
	err := do()
	return errors.Join(err, unix.Mount("", dir, "", flags|unix.MS_RDONLY, ""))
}

// write replaces a file at once.
func write(file, text string, mode fs.FileMode) (err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(file+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// readSome reads a file that people wrote, and no more than anybody writes.
func readSome(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 64<<10))
}
