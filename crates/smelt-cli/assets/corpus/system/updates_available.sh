#!/usr/bin/env bash
#
# updates_available.sh - count the packages that can be upgraded.
#
# Different systems use different package managers. The script finds out
# which one is here and asks it for a list. It does not install anything
# and does not refresh the package index, so no root rights are needed.
#
# Usage: updates_available.sh [--list]

set -euo pipefail

# Print the name of the package manager.
find_manager() {
  local tool
  for tool in apt-get dnf pacman apk; do
    if command -v "$tool" >/dev/null; then
      echo "$tool"
      return 0
    fi
  done
  return 1
}

# Print one package name per line.
list_updates() {
  case "$1" in
    apt-get)
      # The option -s only simulates. Lines of packages start with Inst.
      apt-get -s upgrade 2>/dev/null | awk '/^Inst / { print $2 }'
      ;;
    dnf)
      # dnf ends with status 100 when there are updates.
      { dnf -q check-update || true; } | awk 'NF == 3 { print $1 }'
      ;;
    pacman)
      { pacman -Qu || true; } | awk '{ print $1 }'
      ;;
    apk)
      apk version -l '<' | awk 'NR > 1 { print $1 }'
      ;;
  esac
}

# Debian and Ubuntu create this file when a new kernel waits for a reboot.
note_reboot() {
  if [[ -e /var/run/reboot-required ]]; then
    echo "a reboot is needed to finish earlier updates"
  fi
}

main() {
  local manager packages count=0
  if ! manager="$(find_manager)"; then
    echo "error: no known package manager on this machine" >&2
    return 2
  fi

  packages="$(list_updates "$manager")"
  if [[ -n "$packages" ]]; then
    count="$(wc -l <<<"$packages")"
  fi
  echo "$count package(s) can be upgraded with $manager"
  if [[ "${1:-}" == "--list" && -n "$packages" ]]; then
    echo "$packages"
  fi
  note_reboot
}

main "$@"
