#!/usr/bin/env bash
#
# git-changelog.sh - write a changelog from commit subjects.
#
# The script reads the commits since the last tag and sorts them into
# three groups by the first word of the subject line:
#   "add ..."   goes under Added
#   "fix ..."   goes under Fixed
#   anything else goes under Changed
#
# Usage: git-changelog.sh [FROM [TO]]
#   FROM   start after this tag or commit (default: the last tag)
#   TO     stop at this commit (default: HEAD)
#
# The result is Markdown on standard output:
#   git-changelog.sh v1.2.0 > notes.md

set -euo pipefail

# Print the newest tag that can be reached from HEAD, or nothing.
last_tag() {
  git describe --tags --abbrev=0 2>/dev/null || true
}

# Print one section, unless it has no lines.
print_section() {
  local title=$1
  shift
  if (($# == 0)); then
    return
  fi
  echo
  echo "### $title"
  echo
  printf -- '- %s\n' "$@"
}

main() {
  local from=${1:-$(last_tag)}
  local to=${2:-HEAD}
  local range=$to
  if [[ -n $from ]]; then
    range=$from..$to
  fi

  local added=() fixed=() changed=()
  local subject
  while IFS= read -r subject; do
    # Compare in lower case so that "Fix" and "fix" are the same word.
    case ${subject,,} in
      add\ * | add:*) added+=("$subject") ;;
      fix\ * | fix:*) fixed+=("$subject") ;;
      *) changed+=("$subject") ;;
    esac
  done < <(git log --no-merges --reverse --format='%s' "$range")

  echo "## Changes on $(date +%Y-%m-%d)"
  print_section "Added" ${added[@]+"${added[@]}"}
  print_section "Fixed" ${fixed[@]+"${fixed[@]}"}
  print_section "Changed" ${changed[@]+"${changed[@]}"}
}

main "$@"
