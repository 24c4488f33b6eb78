#!/usr/bin/env bash
#
# git-each.sh - run one git command in many repositories.
#
# The script looks for git repositories below a directory and runs the
# same command in each of them. A heading shows which repository the
# output belongs to. A failure in one repository does not stop the rest;
# the failures are counted and reported at the end.
#
# Usage: git-each.sh DIR GIT-ARGUMENTS...
#
# Examples:
#   git-each.sh ~/src status --short
#   git-each.sh ~/src fetch --prune

set -euo pipefail

usage() {
  echo "usage: git-each.sh DIR GIT-ARGUMENTS..." >&2
  exit 2
}

# Print the repositories below a directory, at most two levels down.
find_repositories() {
  local top=$1
  find "$top" -maxdepth 3 -type d -name .git -prune -print |
    sort |
    while IFS= read -r git_dir; do
      dirname "$git_dir"
    done
}

main() {
  if (($# < 2)); then
    usage
  fi
  local top=$1
  shift
  if [[ ! -d $top ]]; then
    echo "error: $top is not a directory" >&2
    exit 1
  fi

  local total=0
  local failed=0
  local repo
  while IFS= read -r repo; do
    total=$((total + 1))
    echo "== $repo"
    # Take input from nowhere, or git could eat the list we are reading.
    if ! git -C "$repo" "$@" </dev/null; then
      echo "warning: git $1 failed in $repo" >&2
      failed=$((failed + 1))
    fi
  done < <(find_repositories "$top")

  echo "$total repositories, $failed failed"
  ((failed == 0))
}

main "$@"
