#!/usr/bin/env bash
#
# make-docs.sh - build a Markdown page from the comments in scripts.
#
# Each script starts with a comment block that explains it. This tool
# collects these blocks, so that the documentation lives next to the
# code and there is only one text to keep up to date.
#
# Usage: make-docs.sh [DIR] > COMMANDS.md
#        make-docs.sh --check FILE [DIR]
#
# With --check nothing is written. The script fails when FILE is not
# what it would have written, which is useful in CI.

set -euo pipefail

# Print the first comment block of a script without the # signs. The
# #! line is skipped, and the first line without # ends the block.
header() {
  awk '
    NR == 1 && /^#!/ { next }
    !/^#/ { exit }
    { sub(/^# ?/, ""); print }
  ' "$1"
}

# Print the name of the script as a title and below it the comment,
# indented by four spaces, so that Markdown does not change it.
document() {
  local file=$1
  echo "## $(basename "$file")"
  echo
  header "$file" | sed -e '/./,$!d' -e 's/^\(.\)/    \1/'
  echo
}

build() {
  local dir=$1
  echo "# Commands"
  echo
  local file
  for file in "$dir"/*.sh; do
    [[ -f $file ]] || continue
    document "$file"
  done
}

main() {
  if [[ ${1:-} == --check ]]; then
    local page=${2:?the name of the page is missing}
    if diff -u "$page" <(build "${3:-.}"); then
      echo "$page is up to date"
    else
      echo "error: $page is old, please build it again" >&2
      exit 1
    fi
  else
    build "${1:-.}"
  fi
}

main "$@"
