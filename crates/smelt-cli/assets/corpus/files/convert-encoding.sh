#!/usr/bin/env bash
#
# convert-encoding.sh - turn text files into UTF-8 with Unix line ends.
#
# Old text files are often in Latin-1, and files from Windows end their
# lines with a carriage return. This script finds out whether a file is
# valid UTF-8 already. If not, it converts the file from the encoding
# given with -f. It also drops the byte order mark and the carriage
# returns. The original is kept beside the new file with the ending .orig.
#
# Usage:
#   convert-encoding.sh [-f encoding] file [file ...]
#
# Options:
#   -f encoding   what the old files are written in (default ISO-8859-1)

set -euo pipefail

from="ISO-8859-1"

is_utf8() {
  iconv -f UTF-8 -t UTF-8 <"$1" >/dev/null 2>&1
}

# Write the text as UTF-8 to standard output.
to_utf8() {
  if is_utf8 "$1"; then
    cat <"$1"
  else
    iconv -f "$from" -t UTF-8 <"$1"
  fi
}

# The byte order mark is the three bytes EF BB BF at the very start.
strip_marks() {
  LC_ALL=C sed -e $'1s/^\xef\xbb\xbf//' -e $'s/\r$//'
}

convert() {
  local file="$1" new="$1.new"

  if ! to_utf8 "$file" | strip_marks >"$new"; then
    echo "error: cannot convert $file from $from" >&2
    rm -f -- "$new"
    return 1
  fi

  if cmp -s -- "$file" "$new"; then
    rm -f -- "$new"
    echo "unchanged: $file"
  else
    # cp -p keeps the time and the permissions of the original.
    cp -p -- "$file" "$file.orig"
    cat <"$new" >"$file"
    rm -f -- "$new"
    echo "converted: $file"
  fi
}

main() {
  local option failed=0 file

  while getopts ":f:" option; do
    case "$option" in
      f) from="$OPTARG" ;;
      *)
        echo "usage: $(basename "$0") [-f encoding] file ..." >&2
        exit 2
        ;;
    esac
  done
  shift $((OPTIND - 1))

  for file in "$@"; do
    if [[ ! -f "$file" ]]; then
      echo "error: no such file: $file" >&2
      failed=1
    elif ! convert "$file"; then
      failed=1
    fi
  done
  exit "$failed"
}

main "$@"
