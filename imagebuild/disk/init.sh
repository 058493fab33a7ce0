#!/bin/busybox sh
# The first program of a machine: finds the root file system and gives over to it.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
while read -r m; do $b insmod "$m" 2>/dev/null; done </modules
root= trial= init=/sbin/init
for w in $($b cat /proc/cmdline); do
	case $w in
	root=*) root=${w#root=} ;;
	init=*) init=${w#init=} ;;
	nutshell.trial) trial=yes ;;
	esac
done
n=0
while [ $n -lt 300 ]; do
	case $root in
	LABEL=* | UUID=*) device=$($b findfs "$root" 2>/dev/null) ;;
	*) device=$root ;;
	esac
	if [ -n "$device" ] && $b mount -t ext4 -o ro "$device" /root 2>/dev/null; then
		for d in proc sys dev; do $b mount --move /$d /root/$d; done
		exec $b switch_root /root "$init"
	fi
	$b usleep 50000
	n=$((n + 1))
done
echo "Nutshell: no root file system $root after 15 s; disks that were found:"
$b cat /proc/partitions
if [ -n "$trial" ]; then
	echo "The kernel before this one starts in 30 s."
	$b sleep 30
	$b reboot -f
fi
exec $b sh </dev/console >/dev/console 2>&1
