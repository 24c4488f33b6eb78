#!/usr/bin/env bash
#
# retry.sh - run a command again until it succeeds.
#
# Networks and services fail for a short time and then recover. This script
# runs a command, and if it fails it waits and tries again. The wait doubles
# after every failure, so a busy server is not hit too often.
#
# Usage: retry.sh [-n TRIES] [-d DELAY] COMMAND [ARG...]
#   -n TRIES   how often to try (default 5)
#   -d DELAY   seconds to wait after the first failure (default 1)
#
# Example: retry.sh -n 3 -d 2 curl -fsS https://example.com/health
#
# The exit status is that of the last try.

set -euo pipefail

tries=5
delay=1

usage() {
  echo "Usage: retry.sh [-n TRIES] [-d DELAY] COMMAND [ARG...]"
}

# Run a command up to $tries times and return the last exit status.
retry() {
  local attempt=1
  local pause="$delay"
  local status=0

  while true; do
    status=0
    "$@" || status=$?
    if (( status == 0 )); then
      return 0
    fi
    if (( attempt >= tries )); then
      echo "retry: giving up after $attempt tries: $*" >&2
      return "$status"
    fi
    echo "retry: try $attempt failed with status $status, waiting ${pause}s" >&2
    sleep "$pause"
    attempt=$((attempt + 1))
    pause=$((pause * 2))
  done
}

main() {
  local option
  # The leading colon matters: it keeps getopts quiet about errors, so that
  # we can print our own error message.
  while getopts ':n:d:h' option; do
    case "$option" in
      n) tries="$OPTARG" ;;
      d) delay="$OPTARG" ;;
      h) usage; return 0 ;;
      :) echo "error: option -$OPTARG needs a value" >&2; return 2 ;;
      *) echo "error: unknown option -$OPTARG" >&2; usage >&2; return 2 ;;
    esac
  done
  shift $((OPTIND - 1))

  if (( $# == 0 )); then
    usage >&2
    return 2
  fi
  if ! [[ "$tries" =~ ^[1-9][0-9]*$ && "$delay" =~ ^[0-9]+$ ]]; then
    echo "error: TRIES and DELAY must be whole numbers" >&2
    return 2
  fi
  retry "$@"
}

main "$@"
