#!/usr/bin/env bash
#
# dns_check.sh - check that names resolve, and show their addresses.
#
# The script uses getent, which asks in the same way as every other program
# on this machine: first the file /etc/hosts, then the name servers. If a
# name fails here, it also fails for your applications.
#
# Usage: dns_check.sh NAME...
# Example: dns_check.sh example.com www.example.org

set -euo pipefail

# Print all addresses of a name in one line, without repeats.
addresses_of() {
  timeout 5 getent ahosts "$1" | awk '{ print $1 }' | sort -u | paste -sd ' ' -
}

# Show which name servers are asked. This helps to find the cause.
show_servers() {
  echo "name servers in /etc/resolv.conf:"
  awk '$1 == "nameserver" { print "  " $2 }' /etc/resolv.conf
}

main() {
  if (( $# == 0 )); then
    echo "Usage: dns_check.sh NAME..." >&2
    return 2
  fi

  local name found failed=0
  for name in "$@"; do
    # With pipefail the status of getent decides about success.
    if found="$(addresses_of "$name")"; then
      echo "ok    $name -> $found"
    else
      echo "FAIL  $name does not resolve"
      failed=$((failed + 1))
    fi
  done

  if (( failed > 0 )); then
    show_servers >&2
    return 1
  fi
}

main "$@"
