#!/usr/bin/env bash
#
# wait_for_port.sh - wait until a TCP port accepts connections.
#
# This is useful in start scripts: a web application should wait for its
# database before it begins. Bash can open a TCP connection by itself with
# the special path /dev/tcp/HOST/PORT, so no other tool is needed.
#
# Usage: wait_for_port.sh HOST PORT [TIMEOUT]
#   TIMEOUT   how many seconds to wait at most (default 30)
#
# Example: wait_for_port.sh db.example.com 5432 60

set -euo pipefail

# Try to connect once. The subshell closes the connection at its end, and
# timeout stops a try that hangs because packets are dropped.
port_open() {
  timeout 2 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$1" "$2" 2>/dev/null
}

main() {
  if (( $# < 2 )); then
    echo "Usage: wait_for_port.sh HOST PORT [TIMEOUT]" >&2
    return 2
  fi

  local host="$1" port="$2" limit="${3:-30}"
  if ! [[ "$port" =~ ^[0-9]+$ ]] || (( port < 1 || port > 65535 )); then
    echo "error: bad port: $port" >&2
    return 2
  fi

  # SECONDS is a bash variable that counts up by itself.
  SECONDS=0
  while ! port_open "$host" "$port"; do
    if (( SECONDS >= limit )); then
      echo "error: $host:$port is not open after $limit seconds" >&2
      return 1
    fi
    sleep 1
  done
  echo "$host:$port is open after $SECONDS seconds"
}

main "$@"
