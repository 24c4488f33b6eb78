#!/usr/bin/env bash
#
# markdown-section.sh - list the headings of a Markdown file, or print the
# text below one of them.
#
# A heading is a line that starts with one to six hash signs. A section
# goes on until the next heading of the same or of a higher level, so the
# smaller headings below it belong to it. Hash signs inside a block of
# code are comments and not headings, so such blocks are passed over.
#
# Usage:
#   markdown-section.sh file.md             list the headings
#   markdown-section.sh file.md "Heading"   print one section
#
# Example:
#   markdown-section.sh README.md Install | less

set -euo pipefail

list_headings() {
  awk '
    /^```/ { code = !code }
    !code && /^#+ / {
      level = index($0, " ") - 1
      printf "%*s%s\n", (level - 1) * 2, "", substr($0, level + 2)
    }
  ' "$1"
}

# The title comes through the environment, so that a backslash in it does
# no harm. The exit status is 1 if there is no such section.
print_section() {
  TITLE="$2" awk '
    /^```/ { code = !code }
    !code && /^#+ / {
      level = index($0, " ") - 1
      title = substr($0, level + 2)
      if (inside && level <= start) exit
      if (!inside && title == ENVIRON["TITLE"]) {
        inside = 1
        start = level
      }
    }
    inside { print }
    END { exit !inside }
  ' "$1"
}

main() {
  if (($# < 1 || $# > 2)); then
    echo "usage: $(basename "$0") file.md [heading]" >&2
    exit 2
  fi
  if [[ ! -r "$1" ]]; then
    echo "error: cannot read $1" >&2
    exit 1
  fi

  if (($# == 1)); then
    list_headings "$1"
  elif ! print_section "$1" "$2"; then
    echo "error: no section named $2, try one of these:" >&2
    list_headings "$1" >&2
    exit 1
  fi
}

main "$@"
