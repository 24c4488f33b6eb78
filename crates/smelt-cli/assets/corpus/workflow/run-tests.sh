#!/usr/bin/env bash
#
# run-tests.sh - a small test runner for shell scripts.
#
# Every file named tests/test_*.sh is one test file. The runner starts
# each of them in a fresh bash inside its own empty directory. A test
# passes when it exits with status 0. Output is shown only on failure.
#
# Usage: run-tests.sh [-v] [PATTERN]
#   -v        show the output of passing tests too
#   PATTERN   run only the tests whose name contains this text
#
# The variable PROJECT points to the directory with the scripts, so a
# test can say: bash "$PROJECT/greet.sh" World

set -euo pipefail

PROJECT=$PWD
export PROJECT
verbose=no

# Run one test file. Print "ok" or "FAIL" and return its status.
run_one() {
  local file=$1
  local name work status output
  name=$(basename "$file" .sh)
  work=$(mktemp -d)
  status=0
  output=$(cd "$work" && bash "$PROJECT/$file" 2>&1 </dev/null) || status=$?
  rm -rf "$work"

  if ((status == 0)); then
    echo "ok    $name"
  else
    echo "FAIL  $name (status $status)"
  fi
  if [[ -n $output ]] && { ((status != 0)) || [[ $verbose == yes ]]; }; then
    sed 's/^/      | /' <<<"$output"
  fi
  return "$status"
}

main() {
  if [[ ${1:-} == -v ]]; then
    verbose=yes
    shift
  fi
  local pattern=${1:-}

  local passed=0
  local failed=0
  local file
  for file in tests/test_*.sh; do
    # Without any match the pattern itself is left over, so skip it.
    [[ -f $file ]] || continue
    [[ $file == *"$pattern"* ]] || continue
    if run_one "$file"; then
      passed=$((passed + 1))
    else
      failed=$((failed + 1))
    fi
  done

  echo "$passed passed, $failed failed"
  if ((passed + failed == 0)); then
    echo "error: no tests were found" >&2
    exit 1
  fi
  ((failed == 0))
}

main "$@"
