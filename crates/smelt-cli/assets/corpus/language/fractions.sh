#!/usr/bin/env bash
#
# fractions.sh - add, subtract, multiply and divide fractions.
#
# Bash has only whole numbers, and a fraction is a pair of them. The answer is
# reduced with the greatest common divisor, found by the method of Euclid.
#
# Usage: fractions.sh A/B plus|minus|times|over C/D
# Example: fractions.sh 1/2 plus 1/3      prints 5/6

set -euo pipefail

die() {
  echo "error: $*" >&2
  exit 1
}

# The remainder takes the place of the larger number until nothing is left.
gcd() {
  local a=${1#-} b=${2#-} rest
  while (( b != 0 )); do
    rest=$(( a % b ))
    a=$b
    b=$rest
  done
  echo "$a"
}

# Set "top" and "bottom" from text such as 3/4, -1/2 or 5.
read_fraction() {
  local pattern='^(-?)([0-9]{1,6})(/([0-9]{1,6}))?$'
  [[ "$1" =~ $pattern ]] || die "'$1' is not a fraction"
  # The 10# guards against a leading zero, and the sign is added afterwards.
  top=$(( 10#${BASH_REMATCH[2]} ))
  bottom=$(( 10#${BASH_REMATCH[4]:-1} ))
  if [[ "${BASH_REMATCH[1]}" == "-" ]]; then
    top=$(( -top ))
  fi
  (( bottom != 0 )) || die "the bottom of a fraction must not be zero"
}

# Print a fraction in its shortest form, with the sign on top.
print_fraction() {
  local top=$1 bottom=$2 divisor
  if (( bottom < 0 )); then
    top=$(( -top ))
    bottom=$(( -bottom ))
  fi
  divisor=$(gcd "$top" "$bottom")
  top=$(( top / divisor ))
  bottom=$(( bottom / divisor ))
  if (( bottom == 1 )); then
    echo "$top"
  else
    echo "$top/$bottom"
  fi
}

main() {
  if (( $# != 3 )); then
    echo "usage: ${0##*/} A/B plus|minus|times|over C/D" >&2
    exit 2
  fi

  local top bottom a b c d
  read_fraction "$1"; a=$top; b=$bottom
  read_fraction "$3"; c=$top; d=$bottom

  case $2 in
    plus)  print_fraction $(( a * d + c * b )) $(( b * d )) ;;
    minus) print_fraction $(( a * d - c * b )) $(( b * d )) ;;
    times) print_fraction $(( a * c )) $(( b * d )) ;;
    over)
      (( c != 0 )) || die "division by zero"
      print_fraction $(( a * d )) $(( b * c ))
      ;;
    *) die "unknown operation '$2'" ;;
  esac
}

main "$@"
