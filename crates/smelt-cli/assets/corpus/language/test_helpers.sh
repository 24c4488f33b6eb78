#!/usr/bin/env bash
#
# test_helpers.sh - a tiny test framework in plain bash.
#
# Source this file, write functions whose names start with "test_", and call
# run_tests at the end. Each test runs in a subshell, so a test cannot spoil
# the variables or the directory of the next one.
#
# Run the file by itself to see it test two small functions.

set -euo pipefail

# assert_equal WANT GOT [MESSAGE]
assert_equal() {
  if [[ "$1" != "$2" ]]; then
    echo "  ${3:-values differ}"
    echo "    want: $1"
    echo "    got:  $2"
    exit 1
  fi
}

# assert_contains TEXT PART
assert_contains() {
  if [[ "$1" != *"$2"* ]]; then
    echo "  '$1' does not contain '$2'"
    exit 1
  fi
}

# assert_fails COMMAND... - the command must end with a non-zero status.
assert_fails() {
  if "$@" > /dev/null 2>&1; then
    echo "  the command succeeded but should fail: $*"
    exit 1
  fi
}

# Find every function called test_something and run it.
run_tests() {
  local passed=0 failed=0 name output
  while read -r _ _ name; do
    [[ "$name" == test_* ]] || continue
    if output=$("$name" 2>&1); then
      echo "ok    $name"
      passed=$(( passed + 1 ))
    else
      echo "FAIL  $name"
      echo "$output"
      failed=$(( failed + 1 ))
    fi
  done < <(declare -F)

  echo "$passed passed, $failed failed"
  (( failed == 0 ))
}

# ----- The demo: two functions and their tests. -----

slugify() {
  local text=${1,,}
  text=${text//[^a-z0-9]/-}
  echo "$text"
}

divide() {
  (( $2 != 0 )) || return 1
  echo $(( $1 / $2 ))
}

if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then
  test_slugify_lowers_and_joins() {
    assert_equal "hello-world" "$(slugify "Hello World")"
  }

  test_divide_rounds_down() {
    assert_equal 3 "$(divide 7 2)" "seven by two"
  }

  test_divide_refuses_zero() {
    assert_fails divide 1 0
  }

  test_message_has_name() {
    assert_contains "hello, ada" "ada"
  }

  run_tests
fi
