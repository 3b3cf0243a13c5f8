# For ~/.config/fish/config.fish. Each call gets a fresh password.
function lbpsql --wraps psql
    lakebase-token exec -- psql $argv
end
