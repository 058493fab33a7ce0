#!/bin/sh
# Starts one database node: finds out how far its data is, says so in a file,
# and joins the others. Only a token, which is used up, or the mark of a node
# that is alone makes it begin a cluster.
# Arguments: mariadbd, its configuration, the run directory, the data directory.
set -u
program=$1 config=$2 run=$3 data=$4
position=
if [ -d "$data/mysql" ] && [ ! -e "$data/sst_in_progress" ]; then
  # After an orderly stop grastate.dat knows; after a crash InnoDB does.
  state=$data/grastate.dat
  if grep -q '^seqno: *[0-9]' "$state" 2>/dev/null; then
    position=$(sed -n 's/^uuid: *//p' "$state"):$(sed -n 's/^seqno: *//p' "$state")
    start=
  else
    "$program" --defaults-file="$config" --wsrep-recover >"$run/recover.log" 2>&1
    start=$(sed -n 's/.*Recovered position: *\([-0-9a-f:,]*\).*/\1/p' "$run/recover.log" | tail -n 1)
    position=${start%%,*}
  fi
fi
printf '%s\n' "$position" >"$run/position.new" && mv "$run/position.new" "$run/position"
set -- --defaults-file="$config"
if [ -n "${start:-}" ]; then
  set -- "$@" --wsrep_start_position="$start"
fi
if rm "$run/bootstrap" 2>/dev/null || [ -e "$run/solo" ]; then
  if [ -e "$data/grastate.dat" ]; then
    sed 's/^safe_to_bootstrap:.*/safe_to_bootstrap: 1/' "$data/grastate.dat" >"$data/grastate.new" && mv "$data/grastate.new" "$data/grastate.dat"
  fi
  set -- "$@" --wsrep-new-cluster
fi
exec "$program" "$@"
