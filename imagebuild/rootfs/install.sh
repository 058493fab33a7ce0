# Installs packages on top of layers. It runs in mount and process namespaces of
# its own: whatever it mounts or starts is gone when it ends, however it ends.
# Progress goes to file descriptor 3 as apt's status lines.
set -eu
lowers=$1 upper=$2 work=$3 root=$4 debs=$5 lists=$6 job=$7
shift 7
# A layer must mean the same without this kernel's extras: no redirects, no
# data left in the lower layer.
mount -t overlay overlay -o "lowerdir=$lowers,upperdir=$upper,workdir=$work,redirect_dir=off,metacopy=off,index=off" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
for d in null zero full random urandom tty; do
	: >"$root/dev/$d"
	mount --bind "/dev/$d" "$root/dev/$d"
done
mkdir "$root/dev/pts" "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
for d in tmp run; do mount -t tmpfs -o mode=1777 tmpfs "$root/$d"; done
chmod 0755 "$root/run"
mount --bind "$debs" "$root/var/cache/apt/archives"
mount --bind "$lists" "$root/var/lib/apt/lists"
if [ -e /etc/resolv.conf ]; then mount --bind /etc/resolv.conf "$root/etc/resolv.conf"; fi
cp "$job/apt.conf" "$root/tmp/apt.conf"

# Java's packages link manual pages, and fail where their directory is left out.
mkdir -p "$root/usr/share/man/man1"

# A machine's image may start daemons; this build may not.
policy=$root/usr/sbin/policy-rc.d
if [ -e "$policy" ]; then policy=; else
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi

inside() {
	chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
		DEBCONF_NONINTERACTIVE_SEEN=true APT_CONFIG=/tmp/apt.conf http_proxy="${http_proxy:-}" https_proxy="${https_proxy:-}" ${QEMU_CPU:+QEMU_CPU="$QEMU_CPU"} "$@"
}
apt() {
	inside apt-get -q -y -o Dpkg::Use-Pty=0 -o DPkg::Options::=--force-unsafe-io -o DPkg::Options::=--force-confnew "$@"
}
# Lists fetched a moment ago for another layer are good enough, and files need none.
if { [ $# -gt 0 ] || [ -e "$job/script" ]; } && [ -z "$(find "$lists" -maxdepth 1 -name '*Packages*' -mmin -15 | head -n 1)" ]; then apt update 3>&-; fi
if [ $# -gt 0 ]; then apt -o APT::Status-Fd=3 -o APT::Keep-Downloaded-Packages=true --no-install-recommends install -- "$@"; fi
if [ -n "$policy" ]; then rm "$policy"; fi
tar -C "$job/files" -cf - --owner=0 --group=0 . | inside tar -C / -xf - --keep-directory-symlink --no-overwrite-dir
if [ -e "$job/script" ]; then
	cp "$job/script" "$root/tmp/script"
	inside sh -eu /tmp/script </dev/null || { echo "nutshell: the script of the recipe failed"; exit 1; }
fi
