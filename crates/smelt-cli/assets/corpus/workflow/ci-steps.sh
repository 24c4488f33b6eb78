#!/usr/bin/env bash
#
# ci-steps.sh - run the same checks on a laptop as in CI.
#
# A list of named steps is run in order. The script stops at the first
# step that fails, and in any case it prints a table with the result
# and the time of each step. Keeping the steps in a script means that
# the CI service only has to call it, and you can call it too.
#
# Usage: ci-steps.sh [STEP...]
#   STEP   run only these steps (default: lint build test)

set -euo pipefail

summary=()

step_lint() {
  local file
  for file in *.sh; do
    bash -n "$file"
  done
}

step_build() {
  make all
}

step_test() {
  make test
}

# Run one step and remember how it went.
run_step() {
  local name=$1
  if ! declare -F "step_$name" >/dev/null; then
    echo "error: there is no step named $name" >&2
    return 2
  fi
  echo "==> $name"
  local start=$SECONDS
  local status=0
  # A fresh bash is used on purpose: "set -e" has no effect inside a
  # function that is called on the left side of ||.
  bash -euo pipefail -c "$(declare -f "step_$name"); step_$name" || status=$?
  local result=ok
  if ((status != 0)); then
    result="failed ($status)"
  fi
  summary+=("$(printf '%-10s %-12s %4ds' "$name" "$result" $((SECONDS - start)))")
  return "$status"
}

print_summary() {
  echo
  echo "summary:"
  local line
  for line in ${summary[@]+"${summary[@]}"}; do
    echo "  $line"
  done
}

main() {
  if (($# == 0)); then
    set -- lint build test
  fi
  # The trap prints the table even when a step stops the script.
  trap print_summary EXIT
  local name
  for name in "$@"; do
    run_step "$name"
  done
}

main "$@"
