#!/usr/bin/env bash
#
# primes.sh - list the prime numbers up to a limit.
#
# The script uses the sieve of Eratosthenes. It keeps an array in which every
# number starts as a candidate, and it crosses out the multiples of each prime
# it finds. What is left at the end is prime.
#
# Usage: primes.sh [-c] LIMIT
#   -c   print only how many primes there are

set -euo pipefail

usage() {
  echo "usage: ${0##*/} [-c] LIMIT"
  echo "  -c   print only the count"
}

# Fill the global array "primes" with every prime up to the first argument.
sieve() {
  local limit=$1
  local -a crossed=()
  local n multiple
  primes=()

  for (( n = 2; n <= limit; n++ )); do
    # A number that was crossed out has a smaller factor.
    if [[ -n "${crossed[n]:-}" ]]; then
      continue
    fi
    primes+=("$n")
    # Smaller multiples were crossed out by smaller primes already.
    for (( multiple = n * n; multiple <= limit; multiple += n )); do
      crossed[multiple]=1
    done
  done
}

main() {
  local count_only=no
  local opt
  while getopts ":ch" opt; do
    case $opt in
      c) count_only=yes ;;
      h) usage; exit 0 ;;
      *) usage >&2; exit 2 ;;
    esac
  done
  shift $(( OPTIND - 1 ))

  if (( $# != 1 )) || ! [[ "$1" =~ ^(0|[1-9][0-9]*)$ ]]; then
    usage >&2
    exit 2
  fi

  local -a primes
  sieve "$1"

  if [[ "$count_only" == yes ]]; then
    echo "${#primes[@]}"
  elif (( ${#primes[@]} > 0 )); then
    printf '%s\n' "${primes[@]}"
  fi
}

main "$@"
