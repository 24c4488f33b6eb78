#!/usr/bin/env bash
#
# parallel-map.sh - run one command for many files at the same time.
#
# The names of the files are read from standard input, one per line.
# xargs starts the jobs and keeps a fixed number of them running. The
# name of the file is added to the end of the command.
#
# Usage: ... | parallel-map.sh [-j JOBS] COMMAND...
#
# Examples:
#   ls *.log | parallel-map.sh gzip
#   find . -name '*.sh' | parallel-map.sh -j 4 bash -n

set -euo pipefail

usage() {
  echo "usage: ... | parallel-map.sh [-j JOBS] COMMAND..." >&2
  exit 2
}

main() {
  local jobs
  jobs=$(nproc 2>/dev/null || echo 2)
  local opt
  while getopts ':j:' opt; do
    case $opt in
      j) jobs=$OPTARG ;;
      *) usage ;;
    esac
  done
  shift $((OPTIND - 1))
  (($# > 0)) || usage

  # Turn the line ends into null bytes, so that xargs takes each line
  # as it is. Otherwise it would split the names at spaces and quotes.
  #   -0    names end with a null byte
  #   -r    do nothing when there is no input
  #   -n 1  one name for each command
  #   -P    how many commands run at the same time
  local status=0
  tr '\n' '\0' | xargs -0 -r -n 1 -P "$jobs" "$@" || status=$?

  # xargs exits with 123 when one of the commands has failed.
  case $status in
    0) ;;
    123) echo "error: at least one job failed" >&2 ;;
    127) echo "error: the command $1 was not found" >&2 ;;
    *) echo "error: xargs stopped with status $status" >&2 ;;
  esac
  return "$status"
}

main "$@"
