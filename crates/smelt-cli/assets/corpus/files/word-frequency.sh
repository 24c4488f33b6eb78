#!/usr/bin/env bash
#
# word-frequency.sh - count the words of a text.
#
# The text comes from files or from standard input. Upper and lower case
# are counted together. Very common words such as "the" and "of" can be
# left out with -s, and short words with -l.
#
# Usage:
#   word-frequency.sh [-n count] [-l min_length] [-s] [file ...]
#
# Example:
#   word-frequency.sh -n 20 -s letter.txt

set -euo pipefail

common_words="a an and are as at be but by for from has have he her his i
if in is it its not of on or she so that the their then there they this to
was we were what when which who will with you"

# One word per line, in lower case. tr -c turns every character that is
# not a letter or an apostrophe into a line break, and -s squeezes runs.
split_words() {
  tr '[:upper:]' '[:lower:]' | tr -cs "a-z'" '\n' | sed "s/^'*//; s/'*\$//"
}

# grep -v drops lines, -x compares whole lines, -F takes words as they are.
drop_common() {
  grep -vxF -f <(tr -s ' ' '\n' <<<"$common_words") || true
}

main() {
  local count=10 min_length=1 skip_common=false option

  while getopts ":n:l:s" option; do
    case "$option" in
      n) count="$OPTARG" ;;
      l) min_length="$OPTARG" ;;
      s) skip_common=true ;;
      *)
        echo "usage: $(basename "$0") [-n count] [-l length] [-s] [file ...]" >&2
        exit 2
        ;;
    esac
  done
  shift $((OPTIND - 1))

  local words
  words="$(cat -- "$@" | split_words |
    awk -v min="$min_length" 'length($0) >= min')"

  if [[ "$skip_common" == true ]]; then
    words="$(drop_common <<<"$words")"
  fi
  if [[ -z "$words" ]]; then
    echo "no words found" >&2
    exit 1
  fi

  # Sort by count, and by the word itself where the counts are equal.
  # awk stops by itself after the wanted number of lines.
  sort <<<"$words" | uniq -c | sort -k 1,1nr -k 2,2 |
    awk -v count="$count" 'NR <= count { printf "%7d  %s\n", $1, $2 }'
}

main "$@"
