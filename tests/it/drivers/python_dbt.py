"""Selects the current user four times, more than an expiry apart, each time in a new run of dbt, which reads the
password file."""

import os
import pathlib
import tempfile
import time

from dbt.cli.main import dbtRunner

folder = pathlib.Path(tempfile.mkdtemp(dir=os.environ["HOME"]))
(folder / "dbt_project.yml").write_text("name: shop\nversion: '1.0'\nprofile: lakebase\n")
(folder / "profiles.yml").write_text(
    f"""lakebase:
  target: dev
  outputs:
    dev:
      type: postgres
      host: "{os.environ['PGHOST']}"
      port: {os.environ['PGPORT']}
      user: "{os.environ['PGUSER']}"
      password: ""
      dbname: "{os.environ['PGDATABASE']}"
      schema: public
      sslmode: require
      threads: 1
"""
)
arguments = ["--log-level", "none", "show", "--quiet", "--project-dir", str(folder), "--profiles-dir", str(folder)]
for n in range(4):
    if n > 0:
        time.sleep(2.1)
    outcome = dbtRunner().invoke([*arguments, "--inline", "select current_user as role"])
    if not outcome.success:
        raise SystemExit(f"dbt failed: {outcome.exception or outcome.result}")
    print(outcome.result[0].agate_table.rows[0][0])
