#!/usr/bin/env bash
#
# replace-in-files.sh - replace a piece of text in many files.
#
# Both texts are taken literally, so dots, stars and slashes have no
# special meaning. The script shows each line that would change. Nothing
# is written unless the option -w is given.
#
# Usage:
#   replace-in-files.sh [-w] [-g pattern] old_text new_text folder
#
# Options:
#   -w           write the changes
#   -g pattern   only look at files whose name matches, such as '*.md'
#
# Example:
#   replace-in-files.sh -g '*.conf' old.example.com new.example.com etc

set -euo pipefail

usage() {
  echo "usage: $(basename "$0") [-w] [-g pattern] old_text new_text folder"
}

# Put a backslash before each character that sed would treat as special.
escape_pattern() {
  printf '%s' "$1" | sed -e 's/[][\.*^$/]/\\&/g'
}

escape_replacement() {
  printf '%s' "$1" | sed -e 's/[\&/]/\\&/g'
}

main() {
  local write=false pattern='*' option

  while getopts ":wg:h" option; do
    case "$option" in
      w) write=true ;;
      g) pattern="$OPTARG" ;;
      h) usage; exit 0 ;;
      *) usage >&2; exit 2 ;;
    esac
  done
  shift $((OPTIND - 1))

  if (($# != 3)) || [[ -z "$1" ]]; then
    usage >&2
    exit 2
  fi

  local old="$1" new="$2" folder="$3"
  local command
  command="s/$(escape_pattern "$old")/$(escape_replacement "$new")/g"

  # grep -r searches the tree, -l prints names only, -I skips binary files
  # and -Z ends each name with a zero byte, so that any name is safe.
  local -a files=()
  mapfile -d '' -t files < <(
    grep -rlIZF --include="$pattern" -e "$old" -- "$folder" || true
  )

  if ((${#files[@]} == 0)); then
    echo "no file contains: $old"
    return
  fi

  local file
  for file in "${files[@]}"; do
    echo "== $file"
    grep -nF -e "$old" -- "$file"
    if [[ "$write" == true ]]; then
      sed -i -e "$command" -- "$file"
    fi
  done

  if [[ "$write" == true ]]; then
    echo "changed ${#files[@]} files"
  else
    echo "would change ${#files[@]} files, add -w to write"
  fi
}

main "$@"
