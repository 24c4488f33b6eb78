#!/usr/bin/env bash
#
# number-files.sh - rename files to a name with a running number.
#
# The files are taken in the order in which they are given. The number is
# padded with zeros, so that sorting by name gives the right order even
# for the tenth file: trip-01.jpg, trip-02.jpg, up to trip-10.jpg.
#
# Usage:
#   number-files.sh prefix file [file ...]
#
# Example:
#   number-files.sh trip *.jpg

set -euo pipefail

if (($# < 2)); then
  echo "usage: $(basename "$0") prefix file [file ...]" >&2
  exit 2
fi

prefix="$1"
shift

# All files must be there before the first one is renamed.
for path in "$@"; do
  if [[ ! -f "$path" ]]; then
    echo "error: no such file: $path" >&2
    exit 1
  fi
done

# The number of digits that the highest number needs: 2 for 10 to 99.
count=$#
digits=${#count}

number=0
for path in "$@"; do
  number=$((number + 1))
  folder="$(dirname -- "$path")"
  name="$(basename -- "$path")"

  ending=""
  if [[ "$name" == ?*.* ]]; then
    ending=".${name##*.}"
  fi

  printf -v new_name '%s-%0*d%s' "$prefix" "$digits" "$number" "$ending"
  if [[ "$name" == "$new_name" ]]; then
    continue
  fi
  if [[ -e "$folder/$new_name" ]]; then
    echo "error: $folder/$new_name already exists, stopping" >&2
    exit 1
  fi
  mv -- "$path" "$folder/$new_name"
  echo "$name -> $new_name"
done
