#!/usr/bin/env bash
#
# date_tools.sh - leap years, weekdays, and days between two dates.
#
# Everything is computed with whole numbers. No "date" program is called, so
# the script works in the same way on every system.
#
# Usage:
#   date_tools.sh leap YEAR
#   date_tools.sh weekday YYYY-MM-DD
#   date_tools.sh between YYYY-MM-DD YYYY-MM-DD
#   date_tools.sh today

set -euo pipefail

weekdays=(Sunday Monday Tuesday Wednesday Thursday Friday Saturday)

usage() {
  sed -n '/^# Usage/,/^$/s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

# Each fourth year is a leap year, but not each hundredth, and yet each
# four hundredth.
is_leap() {
  local year=$1
  (( (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 ))
}

days_in_month() {
  local year=$1 month=$2
  case $month in
    4|6|9|11) echo 30 ;;
    2) if is_leap "$year"; then echo 29; else echo 28; fi ;;
    *) echo 31 ;;
  esac
}

# Split a date into the variables year, month and day, and check it.
parse_date() {
  if ! [[ "$1" =~ ^([0-9]{4})-([0-9]{2})-([0-9]{2})$ ]]; then
    echo "error: '$1' is not like 2024-02-29" >&2
    exit 1
  fi
  # The 10# makes "08" a decimal number.
  year=$(( 10#${BASH_REMATCH[1]} ))
  month=$(( 10#${BASH_REMATCH[2]} ))
  day=$(( 10#${BASH_REMATCH[3]} ))
  if (( month < 1 || month > 12 || day < 1 \
        || day > $(days_in_month "$year" "$month") )); then
    echo "error: there is no day $1" >&2
    exit 1
  fi
}

# Print a number for each day, so that the next day has the next number.
# The year starts in March here, which puts the leap day at its end.
day_number() {
  local year month day
  parse_date "$1"
  if (( month < 3 )); then
    year=$(( year - 1 ))
    month=$(( month + 12 ))
  fi
  echo $(( 365 * year + year / 4 - year / 100 + year / 400 \
           + (153 * (month - 3) + 2) / 5 + day ))
}

main() {
  local first last
  case ${1:-}:$# in
    leap:2)
      [[ "$2" =~ ^[1-9][0-9]*$ ]] || usage
      if is_leap "$2"; then echo "$2 is a leap year"
      else echo "$2 is not a leap year"; fi
      ;;
    weekday:2)
      first=$(day_number "$2")
      echo "${weekdays[(first + 2) % 7]}"
      ;;
    between:3)
      first=$(day_number "$2")
      last=$(day_number "$3")
      echo $(( last - first ))
      ;;
    today:1)
      printf '%(%Y-%m-%d)T\n' -1
      ;;
    *) usage ;;
  esac
}

main "$@"
