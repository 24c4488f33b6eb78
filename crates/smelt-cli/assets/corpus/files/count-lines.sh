#!/usr/bin/env bash
#
# count-lines.sh - count files and lines by file ending.
#
# Useful to get a feel for a source tree: how much of it is code, how
# much is text, and in which languages. Hidden folders such as .git are
# left out. Blank lines are counted in their own column.
#
# Usage:
#   count-lines.sh [folder]
#
# Sample output:
#   ending      files    lines    blank
#   rs             12     4210      388
#   md              3      240       61
#   total          15     4450      449

set -euo pipefail

# The ending of a path, or "none" where there is no dot in the name.
ending_of() {
  local name="${1##*/}"
  if [[ "$name" == *.* ]]; then
    echo "${name##*.}"
  else
    echo "none"
  fi
}

# Visible text files only. grep -I treats a binary file as no match, and
# the empty pattern matches each line of a text file.
text_files() {
  find "$1" -mindepth 1 -name '.*' -prune -o -type f -print0 |
    xargs -0 -r grep -IlZ '' || true
}

main() {
  local folder="${1:-.}"
  if [[ ! -d "$folder" ]]; then
    echo "error: not a folder: $folder" >&2
    exit 1
  fi

  local -A files=() lines=() blanks=()
  local all_files=0 all_lines=0 all_blanks=0
  local path ending n b

  while IFS= read -r -d '' path; do
    ending="$(ending_of "$path")"
    n="$(wc -l <"$path")"
    b="$(grep -c '^[[:space:]]*$' -- "$path" || true)"
    files[$ending]=$((${files[$ending]:-0} + 1))
    lines[$ending]=$((${lines[$ending]:-0} + n))
    blanks[$ending]=$((${blanks[$ending]:-0} + b))
    all_files=$((all_files + 1))
    all_lines=$((all_lines + n))
    all_blanks=$((all_blanks + b))
  done < <(text_files "$folder")

  printf '%-10s %6s %8s %8s\n' ending files lines blank
  for ending in "${!files[@]}"; do
    printf '%-10s %6d %8d %8d\n' "$ending" "${files[$ending]}" \
      "${lines[$ending]}" "${blanks[$ending]}"
  done | sort -k 3,3nr -k 1,1
  printf '%-10s %6d %8d %8d\n' total "$all_files" "$all_lines" "$all_blanks"
}

main "$@"
