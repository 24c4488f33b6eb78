#!/usr/bin/env bash
#
# disk-usage-report.sh - show which subfolders take up the space.
#
# Each direct subfolder gets one line with its size, its share of the
# total and a bar made of hash signs. The largest one comes first.
#
# Usage:
#   disk-usage-report.sh [folder]
#
# Sample output:
#      620M   62%  ############
#                  photos
#      380M   38%  #######
#                  music

set -euo pipefail

bar_width=20

# Draw a bar: a full bar stands for 100 percent.
draw_bar() {
  local percent="$1"
  local length=$((percent * bar_width / 100))
  local bar=""

  while ((${#bar} < length)); do
    bar+="#"
  done
  printf '%s' "$bar"
}

# Kilobytes to a short form. Integer arithmetic is good enough here.
short_size() {
  local kb="$1"
  if ((kb >= 1048576)); then
    echo "$((kb / 1048576))G"
  elif ((kb >= 1024)); then
    echo "$((kb / 1024))M"
  else
    echo "${kb}K"
  fi
}

main() {
  local folder="${1:-.}"
  if [[ ! -d "$folder" ]]; then
    echo "error: not a folder: $folder" >&2
    exit 1
  fi

  # du -x stays on one file system, so mounted disks are not counted.
  local total
  total="$(du -skx -- "$folder" 2>/dev/null | cut -f 1)" || true
  if [[ -z "$total" || "$total" == 0 ]]; then
    echo "$folder is empty"
    return
  fi

  local kb path percent
  while IFS=$'\t' read -r kb path; do
    percent=$((kb * 100 / total))
    printf '%8s  %3d%%  %s\n' "$(short_size "$kb")" "$percent" \
      "$(draw_bar "$percent")"
    printf '                %s\n' "${path##*/}"
  done < <(
    find "$folder" -mindepth 1 -maxdepth 1 -type d -print0 |
      xargs -0 -r du -skx 2>/dev/null |
      sort -rn
  )
  echo "total: $(short_size "$total")"
}

main "$@"
