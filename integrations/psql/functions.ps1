# For $PROFILE. Each call gets a fresh password.
function lbpsql { lakebase-token exec -- psql @args }
