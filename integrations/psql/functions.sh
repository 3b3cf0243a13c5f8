# For ~/.bashrc, ~/.zshrc or any POSIX shell: each call asks anew, so none goes stale.
lbpsql() { lakebase-token exec -- psql "$@"; }
lbdump() { lakebase-token exec -- pg_dump "$@"; }
# For scripts that call $PSQL, without quotes around it: $PSQL -c 'select 1' (zsh: setopt shwordsplit).
export PSQL='lakebase-token exec -- psql'
