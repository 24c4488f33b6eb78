#!/usr/bin/env bash
#
# fibonacci.sh - print the first numbers of the Fibonacci sequence.
#
# Each number is the sum of the two before it: 0 1 1 2 3 5 8 and so on.
# The script shows two ways to compute them. The loop is fast. The recursive
# way remembers old answers in an associative array, so it is fast as well.
#
# Usage: fibonacci.sh [loop|memo] COUNT

set -euo pipefail

# Bash uses signed 64-bit numbers. The 93rd term is the last one that fits.
max_terms=93

declare -A memo=([0]=0 [1]=1)

usage() {
  echo "usage: ${0##*/} [loop|memo] COUNT   (COUNT is 1 to $max_terms)"
}

fib_loop() {
  local count=$1
  local a=0 b=1 next i
  for (( i = 0; i < count; i++ )); do
    echo "$a"
    next=$(( a + b ))
    a=$b
    b=$next
  done
}

# Store the answer for N in the array "memo". Nothing is printed, because
# a command substitution would lose what the array has learned.
fib_fill() {
  local n=$1
  if [[ -n "${memo[$n]:-}" ]]; then
    return 0
  fi
  fib_fill $(( n - 1 ))
  fib_fill $(( n - 2 ))
  memo[$n]=$(( memo[$((n - 1))] + memo[$((n - 2))] ))
}

fib_memo() {
  local count=$1 i
  for (( i = 0; i < count; i++ )); do
    fib_fill "$i"
    echo "${memo[$i]}"
  done
}

main() {
  local method=loop
  case ${1:-} in
    loop|memo)
      method=$1
      shift
      ;;
    -h|--help)
      usage
      exit 0
      ;;
  esac

  local count=${1:-}
  if ! [[ "$count" =~ ^[1-9][0-9]?$ ]] || (( count > max_terms )); then
    usage >&2
    exit 2
  fi

  "fib_$method" "$count"
}

main "$@"
