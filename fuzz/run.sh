#!/bin/sh
# Runs every fuzz target (or those named) for so many seconds each: fuzz/run.sh SECONDS [TARGET...]
# Needs `cargo install cargo-fuzz`. What is found lies in fuzz/artifacts; new inputs stay out of the committed corpora.
set -eu
cd "$(dirname "$0")/.."
seconds=$1
shift
[ $# -gt 0 ] || set -- $(RUSTC_BOOTSTRAP=1 cargo fuzz list)
for target in "$@"; do
    echo "== $target"
    new=$(mktemp -d)
    features=
    [ "$target" = config ] && features="--features config"
    # shellcheck disable=SC2086 # no features are no words
    RUSTC_BOOTSTRAP=1 cargo fuzz run $features "$target" "$new" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1
    rm -r "$new"
done
