#!/usr/bin/env bash
#
# split-file.sh - cut a big file into parts and join them again.
#
# Useful when a file does not fit on a disk or into a mail. The checksum
# of the whole file is stored next to the parts, so that "join" can prove
# that the result is the same as the original.
#
# Usage:
#   split-file.sh split file [size]     size as in 100M (default 50M)
#   split-file.sh join file
#
# The parts are called file.part-000, file.part-001 and so on.

set -euo pipefail

split_file() {
  local file="$1" size="$2"

  if [[ ! -f "$file" ]]; then
    echo "error: no such file: $file" >&2
    return 1
  fi

  # -d uses digits and -a 3 makes the numbers three digits long.
  split -d -a 3 -b "$size" -- "$file" "$file.part-"
  sha256sum <"$file" | cut -d ' ' -f 1 >"$file.sha256"

  local -a parts=("$file".part-*)
  echo "made ${#parts[@]} parts of $file"
}

join_file() {
  local file="$1"
  local -a parts=("$file".part-*)

  if [[ ! -e "${parts[0]}" ]]; then
    echo "error: no parts of $file found" >&2
    return 1
  fi
  if [[ -e "$file" ]]; then
    echo "error: $file is already there" >&2
    return 1
  fi

  # The shell expands the pattern in sorted order, which is just right.
  cat -- "${parts[@]}" >"$file.joined"

  local want have
  want="$(cat -- "$file.sha256")"
  have="$(sha256sum <"$file.joined" | cut -d ' ' -f 1)"
  if [[ "$want" != "$have" ]]; then
    echo "error: the checksum is wrong, a part may be missing" >&2
    rm -f -- "$file.joined"
    return 1
  fi

  mv -- "$file.joined" "$file"
  echo "joined ${#parts[@]} parts, the checksum is right"
}

case "${1:-}" in
  split) split_file "${2:?file needed}" "${3:-50M}" ;;
  join) join_file "${2:?file needed}" ;;
  *)
    echo "usage: $(basename "$0") split|join file [size]" >&2
    exit 2
    ;;
esac
