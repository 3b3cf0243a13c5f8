# For ~/.bashrc, ~/.zshrc or any POSIX shell. Each call gets a fresh password.
lbpsql() { lakebase-token exec -- psql "$@"; }
lbdump() { lakebase-token exec -- pg_dump "$@"; }
# For scripts that call $PSQL without quotes: $PSQL -c 'select 1' (zsh needs `setopt shwordsplit`).
export PSQL='lakebase-token exec -- psql'
