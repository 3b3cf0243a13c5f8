# A minimal app: each new connection gets a fresh password. ../python has hooks for pools.
import os
import subprocess

import lakebase_token


def query(sql: str) -> str:
    environment = {**os.environ, "PGPASSWORD": lakebase_token.password()}
    psql = ["psql", "-Atc", sql]
    return subprocess.run(psql, env=environment, capture_output=True, text=True, check=True).stdout


print(query("select current_user"), end="")
