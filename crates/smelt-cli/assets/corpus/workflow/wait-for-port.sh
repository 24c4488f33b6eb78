#!/usr/bin/env bash
#
# wait-for-port.sh - wait until a server accepts connections.
#
# A database or a web server needs a moment to start. Tests that begin
# too early fail for no good reason, and a fixed sleep is either too
# short or too long. This script tries to connect again and again until
# it works or the time is up.
#
# Usage: wait-for-port.sh HOST:PORT [SECONDS] [-- COMMAND...]
#   SECONDS   how long to wait at most (default: 30)
#   COMMAND   run this when the server is ready
#
# Example: wait-for-port.sh localhost:5432 60 -- make test

set -euo pipefail

usage() {
  echo "usage: wait-for-port.sh HOST:PORT [SECONDS] [-- COMMAND...]" >&2
  exit 2
}

# Opening this special file name makes bash open a connection. It is
# done in a subshell, so that the connection is closed again at once.
is_open() {
  (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null
}

main() {
  [[ ${1:-} == *:* ]] || usage
  local host=${1%:*}
  local port=${1##*:}
  shift

  local limit=30
  if [[ ${1:-} =~ ^[0-9]+$ ]]; then
    limit=$1
    shift
  fi
  if (($# > 0)); then
    [[ $1 == -- ]] || usage
    shift
  fi

  local end=$((SECONDS + limit))
  until is_open "$host" "$port"; do
    if ((SECONDS >= end)); then
      echo "error: no answer from $host:$port after ${limit}s" >&2
      exit 1
    fi
    sleep 0.2
  done
  echo "$host:$port is ready"

  if (($# > 0)); then
    exec "$@"
  fi
}

main "$@"
