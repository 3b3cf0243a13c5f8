# For $PROFILE: each call asks anew, so none goes stale.
function lbpsql { lakebase-token exec -- psql @args }
