#!/usr/bin/env bash
#
# trap_cleanup.sh - edit a file safely, and leave nothing behind.
#
# The script replaces one word with another in a text file. It works on a
# temporary copy, and moves the copy into place only when all went well. The
# EXIT trap removes the copy, whether the script ends by itself, by an error
# or by Ctrl-C.
#
# Usage: trap_cleanup.sh OLD NEW FILE

set -euo pipefail

work_file=

cleanup() {
  # Keep the status with which the script was about to end.
  local status=$?
  if [[ -n "$work_file" ]]; then
    rm -f -- "$work_file"
  fi
  if (( status != 0 )); then
    echo "stopped with status $status, the file was not changed" >&2
  fi
  exit "$status"
}

# An exit inside these traps runs the EXIT trap as well.
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

die() {
  echo "error: $*" >&2
  exit 1
}

# Print FILE with each OLD replaced. The quotes around $old keep characters
# such as "*" from acting as a pattern.
replace_word() {
  local old=$1 new=$2 file=$3 line
  while IFS= read -r line || [[ -n "$line" ]]; do
    printf '%s\n' "${line//"$old"/"$new"}"
  done < "$file"
}

main() {
  if (( $# != 3 )); then
    die "usage: ${0##*/} OLD NEW FILE"
  fi
  local old=$1 new=$2 file=$3

  [[ -n "$old" ]] || die "the old word is empty"
  [[ -f "$file" ]] || die "no such file: $file"
  [[ -w "$file" ]] || die "cannot write to $file"

  # The copy sits beside the file, so that "mv" is a simple rename.
  work_file=$(mktemp "$file.XXXXXX")
  replace_word "$old" "$new" "$file" > "$work_file"

  if cmp -s "$file" "$work_file"; then
    echo "nothing to change in $file"
    return 0
  fi

  chmod --reference="$file" "$work_file"
  mv -- "$work_file" "$file"
  work_file=
  echo "changed '$old' to '$new' in $file"
}

main "$@"
