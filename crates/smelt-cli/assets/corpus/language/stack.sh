#!/usr/bin/env bash
#
# stack.sh - a reverse Polish calculator built on a stack.
#
# A stack is a pile: the last thing you put on it is the first you take off.
# The calculator pushes numbers, and each operator takes two numbers off the
# pile and pushes the answer.
#
# Usage: stack.sh TOKEN...
# Example: stack.sh 3 4 + 2 x      prints 14
#
# The letter "x" means multiply, so that the shell does not expand a star.

set -euo pipefail

stack=()

die() {
  echo "error: $*" >&2
  exit 1
}

push() {
  stack+=("$1")
}

# Take the top value off the stack and leave it in the variable "popped".
# A global is used because a subshell could not change the array.
pop() {
  local size=${#stack[@]}
  (( size > 0 )) || die "the stack is empty"
  popped=${stack[size - 1]}
  unset 'stack[size - 1]'
}

apply() {
  local operator=$1 left right
  pop; right=$popped
  pop; left=$popped
  case $operator in
    +) push $(( left + right )) ;;
    -) push $(( left - right )) ;;
    x) push $(( left * right )) ;;
    /)
      (( right != 0 )) || die "division by zero"
      push $(( left / right ))
      ;;
  esac
}

main() {
  if (( $# == 0 )); then
    echo "usage: ${0##*/} TOKEN..." >&2
    exit 2
  fi

  local token
  for token in "$@"; do
    if [[ "$token" =~ ^-?(0|[1-9][0-9]*)$ ]]; then
      push "$token"
    elif [[ "$token" == [+x/-] ]]; then
      apply "$token"
    else
      die "unknown token '$token'"
    fi
  done

  (( ${#stack[@]} == 1 )) || die "too many numbers left: ${stack[*]}"
  echo "${stack[0]}"
}

main "$@"
