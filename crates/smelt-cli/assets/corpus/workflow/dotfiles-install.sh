#!/usr/bin/env bash
#
# dotfiles-install.sh - link your settings into the home directory.
#
# Keep your settings in one git repository. This script makes a link in
# your home directory for each file below home/, so home/.vimrc becomes
# ~/.vimrc. A real file that is in the way is moved to a backup
# directory and never deleted. Running the script twice does no harm.
#
# Usage: dotfiles-install.sh [-n]
#   -n   only show what would be done

set -euo pipefail

dry_run=no
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
backup=$HOME/.dotfiles-backup/$(date +%Y%m%d-%H%M%S)

# Show a command and run it, unless -n was given.
run() {
  echo "  $*"
  if [[ $dry_run == no ]]; then
    "$@"
  fi
}

link_file() {
  local source=$1
  local name=$2
  local target=$HOME/$name

  # Nothing to do if the link is already the right one.
  if [[ -L $target && $(readlink "$target") == "$source" ]]; then
    return
  fi

  echo "$name"
  if [[ -e $target || -L $target ]]; then
    run mkdir -p "$(dirname "$backup/$name")"
    run mv "$target" "$backup/$name"
  fi
  run mkdir -p "$(dirname "$target")"
  run ln -s "$source" "$target"
}

main() {
  if [[ ${1:-} == -n ]]; then
    dry_run=yes
  elif (($# > 0)); then
    echo "usage: dotfiles-install.sh [-n]" >&2
    exit 2
  fi

  if [[ ! -d $here/home ]]; then
    echo "error: $here/home does not exist" >&2
    exit 1
  fi

  local file
  while IFS= read -r -d '' file; do
    link_file "$file" "${file#"$here/home/"}"
  done < <(find "$here/home" -type f -print0 | sort -z)
  echo "all settings are in place"
}

main "$@"
