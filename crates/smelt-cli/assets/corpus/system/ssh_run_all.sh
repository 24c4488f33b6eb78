#!/usr/bin/env bash
#
# ssh_run_all.sh - run one command on many hosts over ssh.
#
# The hosts are read from a file, one per line. The output of each host is
# printed with the host name in front, so you can see where a line is from.
# At the end the hosts that failed are listed again.
#
# Usage: ssh_run_all.sh HOST_FILE COMMAND...
# Example: ssh_run_all.sh hosts.txt uptime

set -euo pipefail

# BatchMode stops ssh from asking for a password, which would block the
# loop. ConnectTimeout limits the wait for a host that is switched off.
ssh_options=(-o BatchMode=yes -o ConnectTimeout=5)

# Run the command on one host. The option -n is important: without it ssh
# would read the rest of the host list from standard input.
run_on_host() {
  local host="$1"
  shift
  ssh -n "${ssh_options[@]}" "$host" "$@" 2>&1 | sed "s/^/$host: /"
}

main() {
  if (( $# < 2 )); then
    echo "Usage: ssh_run_all.sh HOST_FILE COMMAND..." >&2
    return 2
  fi
  local file="$1" host
  local failed=()
  shift
  if [[ ! -r "$file" ]]; then
    echo "error: cannot read $file" >&2
    return 2
  fi

  while read -r host _; do
    [[ -n "$host" && "$host" != \#* ]] || continue
    if ! run_on_host "$host" "$@"; then
      failed+=("$host")
    fi
  done <"$file"

  if (( ${#failed[@]} > 0 )); then
    echo "failed on ${#failed[@]} host(s): ${failed[*]}" >&2
    return 1
  fi
}

main "$@"
