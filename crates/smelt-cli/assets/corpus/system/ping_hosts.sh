#!/usr/bin/env bash
#
# ping_hosts.sh - ping many hosts at the same time and show who answers.
#
# Each ping runs in the background and writes its result to a file of its
# own, so the lines are never mixed. When all are done, the results are
# printed in the order in which the hosts were given.
#
# Usage: ping_hosts.sh HOST...
# Example: ping_hosts.sh example.com example.org localhost

set -euo pipefail

result_dir=""

cleanup() {
  [[ -z "$result_dir" ]] || rm -rf "$result_dir"
}

# Send two packets and wait at most two seconds for each answer.
ping_one() {
  local host="$1" output="$2" average
  if ping -c 2 -W 2 "$host" >"$output.raw" 2>&1; then
    # The last line looks like: rtt min/avg/max/mdev = 1.0/1.5/2.0/0.5 ms
    average="$(awk -F/ '/min\/avg\/max/ { print $5 }' "$output.raw")"
    printf 'up    %-30s %s ms\n' "$host" "${average:-?}" >"$output"
  else
    printf 'DOWN  %-30s\n' "$host" >"$output"
  fi
}

main() {
  if (( $# == 0 )); then
    echo "Usage: ping_hosts.sh HOST..." >&2
    return 2
  fi
  command -v ping >/dev/null || { echo "error: ping is not installed" >&2; return 2; }

  trap cleanup EXIT
  result_dir="$(mktemp -d)"

  local host index=0
  for host in "$@"; do
    ping_one "$host" "$result_dir/$index" &
    index=$((index + 1))
  done
  wait

  local i down=0
  for (( i = 0; i < index; i++ )); do
    cat "$result_dir/$i"
    if grep -q '^DOWN' "$result_dir/$i"; then
      down=$((down + 1))
    fi
  done
  echo "$((index - down)) up, $down down"
  (( down == 0 ))
}

main "$@"
