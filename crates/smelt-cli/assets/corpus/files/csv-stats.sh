#!/usr/bin/env bash
#
# csv-stats.sh - count, sum, mean, smallest and largest of a column.
#
# The column is given by its number, starting with 1. The first line is
# skipped, since it holds the names. Fields that are not numbers are
# counted apart and do not spoil the sum. A quoted field may not hold a
# comma.
#
# Usage:
#   csv-stats.sh file.csv column
#
# Example:
#   $ csv-stats.sh prices.csv 3
#   column   price
#   count    4
#   sum      50.00
#   mean     12.50
#   min      5.00
#   max      20.00
#   skipped  1

set -euo pipefail

main() {
  if (($# != 2)); then
    echo "usage: $(basename "$0") file.csv column" >&2
    exit 2
  fi

  local file="$1" column="$2"
  if [[ ! -r "$file" ]]; then
    echo "error: cannot read $file" >&2
    exit 1
  fi
  if [[ ! "$column" =~ ^[1-9][0-9]*$ ]]; then
    echo "error: the column must be a number from 1 up" >&2
    exit 2
  fi

  awk -F ',' -v column="$column" '
    # Remove a carriage return and the quotes around a field.
    function clean(text) {
      gsub(/\r/, "", text)
      gsub(/^ *"?|"? *$/, "", text)
      return text
    }

    NR == 1 {
      name = clean($column)
      next
    }

    {
      value = clean($column)
      if (value !~ /^[-+]?[0-9]+(\.[0-9]+)?$/) {
        skipped++
        next
      }
      value = value + 0
      sum += value
      if (count == 0 || value < min) min = value
      if (count == 0 || value > max) max = value
      count++
    }

    END {
      printf "%-8s %s\n", "column", name
      printf "%-8s %d\n", "count", count
      if (count > 0) {
        printf "%-8s %.2f\n", "sum", sum
        printf "%-8s %.2f\n", "mean", sum / count
        printf "%-8s %.2f\n", "min", min
        printf "%-8s %.2f\n", "max", max
      }
      printf "%-8s %d\n", "skipped", skipped
    }
  ' "$file"
}

main "$@"
