"""Checks what the wheel's module returns, and prints how it fails."""

import lakebase_token

credential = lakebase_token.credential()
assert credential["token"] == lakebase_token.password() and credential["user"], credential
try:
    lakebase_token.password("--endpoint", "projects/no/branches/no/endpoints/no")
except lakebase_token.Error as error:
    print(error.code, "endpoint id not found" in str(error))
