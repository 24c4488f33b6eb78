#!/usr/bin/env bash
#
# open_ports.sh - compare the listening TCP ports with a list of known ones.
#
# Every port that listens is a door into the machine. You should know all
# of them. Give the ports that you expect as arguments. The script reports
# ports that are open but not expected, and ports that should be open but
# are not.
#
# Usage: open_ports.sh PORT...
# Example: open_ports.sh 22 80 443

set -euo pipefail

# Print the number of each listening port once. The fourth column of ss is
# the local address, such as 0.0.0.0:22 or [::]:22.
listening_ports() {
  ss -Hltn | awk '{ n = split($4, part, ":"); print part[n] }' | sort -nu
}

main() {
  if (( $# == 0 )); then
    echo "Usage: open_ports.sh PORT..." >&2
    return 2
  fi
  command -v ss >/dev/null || { echo "error: ss is not installed" >&2; return 2; }

  # Two tables make it quick to ask "is this port in the list?".
  local -A expected=() open=()
  local port problems=0
  for port in "$@"; do
    expected[$port]=1
  done
  while read -r port; do
    open[$port]=1
    if [[ -z "${expected[$port]:-}" ]]; then
      echo "unexpected: port $port is open"
      problems=$((problems + 1))
    fi
  done < <(listening_ports)

  for port in "$@"; do
    if [[ -z "${open[$port]:-}" ]]; then
      echo "missing: port $port is not open"
      problems=$((problems + 1))
    fi
  done

  (( problems == 0 )) || return 1
  echo "all ports are as expected"
}

main "$@"
