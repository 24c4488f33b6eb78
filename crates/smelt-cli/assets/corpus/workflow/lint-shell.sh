#!/usr/bin/env bash
#
# lint-shell.sh - check every shell script in a project.
#
# Three things are checked for each script:
#   1. bash can parse it (bash -n)
#   2. it is marked as executable
#   3. shellcheck has no complaints, if shellcheck is installed
#
# Usage: lint-shell.sh [DIR]

set -euo pipefail

problems=0

report() {
  echo "$1: $2"
  problems=$((problems + 1))
}

# Print all shell scripts: files that end in .sh, and files whose first
# line names a shell. The names are separated by null bytes.
find_scripts() {
  local dir=$1
  local file line
  while IFS= read -r -d '' file; do
    line=""
    if [[ $file != *.sh ]]; then
      # Some files are binary, so hide the warning about null bytes.
      { IFS= read -r line <"$file" || true; } 2>/dev/null
      [[ $line =~ ^'#!'.*(bash|/sh)$ ]] || continue
    fi
    printf '%s\0' "$file"
  done < <(find "$dir" -type f -not -path '*/.git/*' -print0)
}

check_script() {
  local file=$1
  local message
  if ! message=$(bash -n "$file" 2>&1); then
    report "$file" "syntax error: $message"
    return
  fi
  if [[ ! -x $file ]]; then
    report "$file" "not executable, run: chmod +x $file"
  fi
  if command -v shellcheck >/dev/null; then
    shellcheck "$file" || report "$file" "shellcheck found something"
  fi
}

main() {
  local dir=${1:-.}
  local count=0
  local file
  while IFS= read -r -d '' file; do
    count=$((count + 1))
    check_script "$file"
  done < <(find_scripts "$dir")

  echo "$count scripts checked, $problems problems"
  ((problems == 0))
}

main "$@"
