#!/usr/bin/env bash
#
# guess_number.sh - a small guessing game.
#
# The script picks a secret number between 1 and a limit. You type a guess,
# and it tells you whether the secret is higher or lower. The game ends when
# you find the number or when you run out of tries.
#
# Usage: guess_number.sh [LIMIT] [TRIES]
# Example: guess_number.sh 50 6

set -euo pipefail

usage() {
  echo "usage: ${0##*/} [LIMIT] [TRIES]"
}

die() {
  echo "error: $*" >&2
  exit 1
}

# Succeed when the argument is a whole number greater than zero.
is_positive() {
  [[ "$1" =~ ^[1-9][0-9]*$ ]]
}

# Ask one question until the answer is a number, then store it in "guess".
ask_guess() {
  local prompt=$1
  while true; do
    if ! read -r -p "$prompt" guess; then
      echo
      die "no more input, game over"
    fi
    if is_positive "$guess"; then
      return 0
    fi
    echo "Please type a whole number such as 7."
  done
}

main() {
  if [[ "${1:-}" == "-h" || "${1:-}" == "--help" ]]; then
    usage
    exit 0
  fi

  local limit=${1:-100}
  local tries=${2:-7}
  is_positive "$limit" || die "LIMIT must be a positive number"
  is_positive "$tries" || die "TRIES must be a positive number"

  # RANDOM is between 0 and 32767, so the limit must fit in that range.
  (( limit <= 32768 )) || die "LIMIT is too large"

  local secret=$(( RANDOM % limit + 1 ))
  local try guess
  echo "I am thinking of a number between 1 and $limit."

  for (( try = 1; try <= tries; try++ )); do
    ask_guess "Try $try of $tries: "
    if (( guess == secret )); then
      echo "Correct! You needed $try tries."
      exit 0
    elif (( guess < secret )); then
      echo "The number is higher."
    else
      echo "The number is lower."
    fi
  done

  echo "No tries left. The number was $secret."
  exit 1
}

main "$@"
