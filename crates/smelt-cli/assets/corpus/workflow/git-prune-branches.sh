#!/usr/bin/env bash
#
# git-prune-branches.sh - delete local branches that are already merged.
#
# After a branch is merged its name is only clutter. This script lists
# every local branch whose commits are all contained in the main branch.
# By default it only prints what it would do. Pass -f to really delete.
#
# Usage: git-prune-branches.sh [-f] [MAIN]
#   -f     delete the branches instead of printing them
#   MAIN   the branch to compare with (default: main)

set -euo pipefail

# Branches that must never be deleted, as one regular expression.
protected='^(main|master|develop|release/.*)$'

usage() {
  echo "usage: git-prune-branches.sh [-f] [MAIN]" >&2
  exit 2
}

# Print the merged branches, one per line, without the protected ones
# and without the branch that is checked out now.
merged_branches() {
  local base=$1
  local current
  current=$(git branch --show-current)
  git for-each-ref --format='%(refname:short)' --merged "$base" refs/heads |
    while read -r name; do
      if [[ $name == "$current" || $name == "$base" ]]; then
        continue
      fi
      if [[ $name =~ $protected ]]; then
        continue
      fi
      echo "$name"
    done
}

main() {
  local force=no
  while getopts ':fh' opt; do
    case $opt in
      f) force=yes ;;
      *) usage ;;
    esac
  done
  shift $((OPTIND - 1))
  local base=${1:-main}

  if ! git rev-parse --verify --quiet "$base" >/dev/null; then
    echo "error: there is no branch named $base" >&2
    exit 1
  fi

  local count=0
  local name
  while read -r name; do
    count=$((count + 1))
    if [[ $force == yes ]]; then
      # The small -d refuses to drop unmerged work, so it is the safe one.
      git branch -d "$name"
    else
      echo "would delete $name"
    fi
  done < <(merged_branches "$base")

  if ((count == 0)); then
    echo "nothing to clean up"
  fi
}

main "$@"
