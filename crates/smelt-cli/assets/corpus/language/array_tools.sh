#!/usr/bin/env bash
#
# array_tools.sh - functions that work on arrays given by name.
#
# Bash cannot pass an array to a function as one value. A name reference
# ("local -n") solves this: the function receives the name of the array and
# works on the array of its caller. Run the file to see each function at work.
#
# Inside the functions the names start with an underscore, because a name
# reference must not have the same name as the array it points to.

set -euo pipefail

# array_has ARRAY VALUE - succeed when the value is in the array.
array_has() {
  local -n _array=$1
  local _item
  for _item in "${_array[@]}"; do
    if [[ "$_item" == "$2" ]]; then
      return 0
    fi
  done
  return 1
}

# array_join ARRAY SEPARATOR - print all items in one line.
array_join() {
  local -n _array=$1
  local _result="" _item
  for _item in "${_array[@]}"; do
    _result+="${_result:+$2}$_item"
  done
  printf '%s\n' "$_result"
}

# array_unique ARRAY - drop items that were seen before, keep the order.
array_unique() {
  local -n _array=$1
  local -A _seen=()
  local -a _kept=()
  local _item
  for _item in "${_array[@]}"; do
    # The "x" allows an item that is an empty string.
    if [[ -z "${_seen[x$_item]:-}" ]]; then
      _seen[x$_item]=1
      _kept+=("$_item")
    fi
  done
  _array=("${_kept[@]}")
}

# array_reverse ARRAY
array_reverse() {
  local -n _array=$1
  local -a _turned=()
  local _i
  for (( _i = ${#_array[@]} - 1; _i >= 0; _i-- )); do
    _turned+=("${_array[_i]}")
  done
  _array=("${_turned[@]}")
}

# array_filter ARRAY COMMAND... - keep the items for which COMMAND succeeds.
array_filter() {
  local -n _array=$1
  shift
  local -a _kept=()
  local _item
  for _item in "${_array[@]}"; do
    if "$@" "$_item"; then
      _kept+=("$_item")
    fi
  done
  _array=("${_kept[@]}")
}

is_short() {
  (( ${#1} <= 5 ))
}

main() {
  local -a fruit=(apple pear "passion fruit" apple plum banana pear)
  echo "start:    $(array_join fruit ", ")"

  array_unique fruit
  echo "unique:   $(array_join fruit ", ")"

  array_reverse fruit
  echo "reversed: $(array_join fruit ", ")"

  array_filter fruit is_short
  echo "short:    $(array_join fruit ", ")"

  if array_has fruit plum; then
    echo "There is a plum among ${#fruit[@]} fruits."
  fi
}

main "$@"
