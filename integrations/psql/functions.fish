# For ~/.config/fish/config.fish: each call asks anew, so none goes stale.
function lbpsql --wraps psql
    lakebase-token exec -- psql $argv
end
