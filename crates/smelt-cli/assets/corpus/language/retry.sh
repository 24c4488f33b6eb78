#!/usr/bin/env bash
#
# retry.sh - run a command again until it succeeds.
#
# Some commands fail for a moment and work a little later. This script tries
# a command several times and doubles the pause after each failure. It ends
# with the status of the last try.
#
# Usage: retry.sh [-t TRIES] [-p SECONDS] [--] COMMAND [ARGUMENT]...
#   -t TRIES    how often to try (default 5)
#   -p SECONDS  the first pause (default 1)
#
# Example: retry.sh -t 3 curl -fsS https://example.com/

set -euo pipefail

usage() {
  echo "usage: ${0##*/} [-t TRIES] [-p SECONDS] [--] COMMAND [ARGUMENT]..." >&2
  exit 2
}

is_whole() {
  [[ "$1" =~ ^(0|[1-9][0-9]*)$ ]]
}

# retry TRIES PAUSE COMMAND...
retry() {
  local tries=$1 pause=$2
  shift 2
  local try status=0

  for (( try = 1; try <= tries; try++ )); do
    status=0
    # The "||" keeps "set -e" from ending the script here.
    "$@" || status=$?

    case $status in
      0)
        return 0
        ;;
      126|127)
        # The command cannot be run at all, so another try is no help.
        echo "cannot run '$1'" >&2
        return "$status"
        ;;
    esac

    echo "try $try of $tries failed with status $status" >&2
    if (( try < tries )); then
      sleep "$pause"
      pause=$(( pause * 2 ))
    fi
  done
  return "$status"
}

main() {
  local tries=5 pause=1 option
  while getopts ":t:p:" option; do
    case $option in
      t) tries=$OPTARG ;;
      p) pause=$OPTARG ;;
      *) usage ;;
    esac
  done
  shift $(( OPTIND - 1 ))

  (( $# > 0 )) || usage
  is_whole "$tries" || usage
  is_whole "$pause" || usage
  (( tries > 0 )) || usage

  retry "$tries" "$pause" "$@"
}

main "$@"
