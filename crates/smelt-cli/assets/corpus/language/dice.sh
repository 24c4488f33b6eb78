#!/usr/bin/env bash
#
# dice.sh - roll dice and show how often each total came up.
#
# A roll is written like 2d6: two dice with six sides each. You may add or
# subtract a number at the end, as in 1d20+3.
#
# Usage: dice.sh [-n TIMES] [-s SEED] ROLL
#   -n TIMES   roll again and again, and draw a chart (default 1)
#   -s SEED    start from a fixed seed, to get the same dice each time

set -euo pipefail

usage() {
  echo "usage: ${0##*/} [-n TIMES] [-s SEED] ROLL   (a roll is like 2d6+1)" >&2
  exit 2
}

# Set "rolled" to a fair number from 1 to SIDES. A plain modulo would favour
# small numbers a little, so values at the top of the range are thrown away.
roll_die() {
  local sides=$1
  local limit=$(( 32768 - 32768 % sides )) value
  while true; do
    value=$RANDOM
    if (( value < limit )); then
      rolled=$(( value % sides + 1 ))
      return 0
    fi
  done
}

roll_all() {
  local count=$1 sides=$2 bonus=$3 i rolled
  total=$bonus
  for (( i = 0; i < count; i++ )); do
    roll_die "$sides"
    total=$(( total + rolled ))
  done
}

# Draw one line of stars for each total.
draw_chart() {
  local low=$1 high=$2 times=$3 sum stars
  for (( sum = low; sum <= high; sum++ )); do
    printf -v stars '%*s' $(( ${seen[$sum]:-0} * 60 / times )) ""
    printf '%4d %6d %s\n' "$sum" "${seen[$sum]:-0}" "${stars// /*}"
  done
}

main() {
  local times=1 option
  while getopts ":n:s:" option; do
    case $option in
      n) times=$OPTARG ;;
      s) [[ "$OPTARG" =~ ^[0-9]+$ ]] || usage; RANDOM=$OPTARG ;;
      *) usage ;;
    esac
  done
  shift $(( OPTIND - 1 ))
  [[ "$times" =~ ^[1-9][0-9]*$ ]] || usage

  local pattern='^([1-9][0-9]?)d([1-9][0-9]{0,2})([+-][1-9][0-9]?)?$'
  [[ "${1:-}" =~ $pattern ]] || usage
  local count=${BASH_REMATCH[1]}
  local sides=${BASH_REMATCH[2]}
  local bonus=${BASH_REMATCH[3]:-0}

  local -A seen=()
  local total i
  for (( i = 0; i < times; i++ )); do
    roll_all "$count" "$sides" "$bonus"
    seen[$total]=$(( ${seen[$total]:-0} + 1 ))
  done

  if (( times == 1 )); then
    echo "$total"
  else
    draw_chart $(( count + bonus )) $(( count * sides + bonus )) "$times"
  fi
}

main "$@"
