#!/usr/bin/env bash
#
# queue.sh - find the shortest way through a small maze with a queue.
#
# A queue is a line of people: the first to arrive is the first to leave.
# A breadth-first search keeps the cells it still has to visit in a queue, so
# it reaches near cells before far ones. That makes the first path it finds
# the shortest path.
#
# Usage: queue.sh < MAZE      (without input on a pipe, a sample is used)
# In the maze "#" is a wall, "S" is the start and "E" is the exit.

set -euo pipefail

grid=()
queue=()
head=0

sample_maze() {
  cat <<'MAZE'
S.#.....
..#.###.
.##.#...
....#.#E
MAZE
}

enqueue() {
  queue+=("$1")
}

# Moving an index is much cheaper than shifting the whole array.
dequeue() {
  item=${queue[head]}
  head=$(( head + 1 ))
}

queue_is_empty() {
  (( head >= ${#queue[@]} ))
}

# Print the character at ROW COLUMN, or a wall when it is off the map.
cell_at() {
  local row=$1 col=$2
  if (( row < 0 || col < 0 || row >= ${#grid[@]} )); then
    cell="#"
  else
    cell=${grid[row]:col:1}
    cell=${cell:-#}
  fi
}

find_start() {
  local row before
  for row in "${!grid[@]}"; do
    if [[ "${grid[row]}" == *S* ]]; then
      before=${grid[row]%%S*}
      start="$row,${#before}"
      return 0
    fi
  done
  return 1
}

search() {
  local -A steps=()
  local item cell row col move next
  steps[$start]=0
  enqueue "$start"

  while ! queue_is_empty; do
    dequeue
    row=${item%,*}
    col=${item#*,}
    cell_at "$row" "$col"
    if [[ "$cell" == E ]]; then
      echo "shortest path: ${steps[$item]} steps"
      return 0
    fi
    for move in "-1 0" "1 0" "0 -1" "0 1"; do
      next="$(( row + ${move% *} )),$(( col + ${move#* } ))"
      cell_at "${next%,*}" "${next#*,}"
      if [[ "$cell" != "#" && -z "${steps[$next]:-}" ]]; then
        steps[$next]=$(( ${steps[$item]} + 1 ))
        enqueue "$next"
      fi
    done
  done
  return 1
}

main() {
  if [[ -t 0 ]]; then
    mapfile -t grid < <(sample_maze)
  else
    mapfile -t grid
  fi
  if ! find_start; then
    echo "error: the maze has no start" >&2
    exit 2
  fi
  search || { echo "there is no way out"; exit 1; }
}

main "$@"
