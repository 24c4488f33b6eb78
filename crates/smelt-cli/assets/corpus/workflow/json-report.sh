#!/usr/bin/env bash
#
# json-report.sh - turn a list of test results in JSON into a report.
#
# The input is an array of objects like this one:
#   {"name": "login", "status": "passed", "seconds": 1.25}
# The script prints the totals, the failed tests and the slowest tests.
# It exits with status 1 when a test has failed, so CI can use it.
#
# Usage: json-report.sh FILE

set -euo pipefail

die() {
  echo "error: $*" >&2
  exit 2
}

print_totals() {
  echo "Totals"
  jq -r '
    group_by(.status)[]
    | "  \(.[0].status): \(length)"
  ' "$1"
}

print_failed() {
  echo "Failed"
  jq -r '.[] | select(.status == "failed") | "  " + .name' "$1"
}

# Sort by time, turn the list around and take the first few entries.
print_slowest() {
  local file=$1
  local count=$2
  echo "Slowest"
  jq -r --argjson n "$count" '
    sort_by(.seconds) | reverse | .[:$n][]
    | "  \(.seconds)s  \(.name)"
  ' "$file"
}

main() {
  command -v jq >/dev/null || die "please install jq first"
  (($# == 1)) || die "usage: json-report.sh FILE"
  local file=$1
  [[ -r $file ]] || die "can not read $file"

  # Check the shape of the input before we use it.
  if ! jq -e 'type == "array"' "$file" >/dev/null; then
    die "$file does not hold a JSON array"
  fi

  print_totals "$file"
  print_slowest "$file" 3

  # With -e the status of jq tells us if the answer was true.
  if jq -e 'any(.[]; .status == "failed")' "$file" >/dev/null; then
    print_failed "$file"
    exit 1
  fi
  echo "All tests passed."
}

main "$@"
