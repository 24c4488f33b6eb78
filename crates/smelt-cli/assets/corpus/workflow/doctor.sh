#!/usr/bin/env bash
#
# doctor.sh - check that a machine is ready for this project.
#
# New people lose hours because one tool is missing or too old. This
# script checks everything at once and says how to repair each problem.
# It does not stop at the first problem, and it changes nothing.
#
# Usage: doctor.sh

set -uo pipefail

problems=0

good() {
  echo "  ok    $*"
}

bad() {
  echo "  FAIL  $*"
  problems=$((problems + 1))
}

# True if version $1 is the same as version $2 or newer.
version_at_least() {
  local first
  first=$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)
  [[ $first == "$2" ]]
}

# check_tool NAME WANTED: the tool must exist and be new enough. The
# version is the first thing like 1.2 in the output of --version.
check_tool() {
  local name=$1
  local wanted=$2
  if ! command -v "$name" >/dev/null; then
    bad "$name is not installed"
    return
  fi
  local text version
  text=$("$name" --version 2>&1)
  if [[ ! $text =~ [0-9]+(\.[0-9]+)+ ]]; then
    bad "$name does not tell its version"
    return
  fi
  version=${BASH_REMATCH[0]}
  if version_at_least "$version" "$wanted"; then
    good "$name $version"
  else
    bad "$name $version is too old, please install $wanted or newer"
  fi
}

check_disk() {
  local wanted_mb=$1
  local free_mb
  free_mb=$(df -Pm . | awk 'NR == 2 { print $4 }')
  if ((free_mb >= wanted_mb)); then
    good "$free_mb MB of free disk space"
  else
    bad "only $free_mb MB of free disk space, $wanted_mb MB are needed"
  fi
}

check_variable() {
  local name=$1
  if [[ -n ${!name:-} ]]; then
    good "$name is set"
  else
    bad "$name is not set, add it to your shell profile"
  fi
}

main() {
  echo "tools:"
  check_tool bash 4.4
  check_tool git 2.20
  check_tool make 4.0
  check_tool jq 1.5
  echo "machine:"
  check_disk 500
  echo "settings:"
  check_variable HOME
  check_variable EDITOR

  if ((problems > 0)); then
    echo "found $problems problem(s)"
    exit 1
  fi
  echo "everything looks fine"
}

main "$@"
