#!/usr/bin/env bash
#
# menu.sh - convert units with a menu made by "select".
#
# The builtin "select" prints a numbered list, asks for a number, and puts the
# chosen item into a variable. It asks again until the loop is left with
# "break", or until the input ends with Ctrl-D.
#
# Usage: menu.sh      then follow the questions

set -euo pipefail

# Results have one decimal. Bash has no fractions, so the functions compute
# with tenths, and show_tenths puts the point in its place.
show_tenths() {
  local value=$1 sign=""
  if (( value < 0 )); then
    sign="-"
    value=$(( -value ))
  fi
  printf '%s%d.%d\n' "$sign" $(( value / 10 )) $(( value % 10 ))
}

celsius_to_fahrenheit() {
  show_tenths $(( $1 * 18 + 320 ))
}

fahrenheit_to_celsius() {
  show_tenths $(( ($1 - 32) * 50 / 9 ))
}

miles_to_kilometres() {
  show_tenths $(( $1 * 16093 / 1000 ))
}

# Ask for a whole number and leave it in the variable "amount".
ask_amount() {
  amount=
  until [[ "$amount" =~ ^-?(0|[1-9][0-9]{0,8})$ ]]; do
    read -r -p "Which number? " amount || return 1
  done
}

main() {
  local choice amount
  local -a choices=(
    "Celsius to Fahrenheit"
    "Fahrenheit to Celsius"
    "Miles to kilometres"
    "Quit"
  )

  # PS3 is the prompt that "select" shows.
  local PS3="Your choice: "

  select choice in "${choices[@]}"; do
    # REPLY holds what was typed. The choice is empty for a wrong number.
    if [[ -z "$choice" ]]; then
      echo "There is no choice '$REPLY'."
      continue
    fi
    if [[ "$choice" == Quit ]]; then
      break
    fi

    ask_amount || break
    case $choice in
      Celsius*)    celsius_to_fahrenheit "$amount" ;;
      Fahrenheit*) fahrenheit_to_celsius "$amount" ;;
      Miles*)      miles_to_kilometres "$amount" ;;
    esac
  done || true
  echo "Goodbye."
}

main "$@"
