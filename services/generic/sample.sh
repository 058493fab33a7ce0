#!/bin/bash
# Sample of Nutshell's generic service: tells in generic.out that it was called.
{
	echo "$(date) $(basename "$0") $*"
	echo "MY_IP=$MY_IP MY_ROLE=$MY_ROLE MASTER_IP=$MASTER_IP"
	cat "$AGENTS_JSON"
	echo
} >> "$HOME/generic.out"
