"""The official SDK for Python: asks a workspace for its own user name, with its environment's settings;
TIMES times, five seconds apart."""

import os
import time

from databricks.sdk import WorkspaceClient

client = WorkspaceClient()
for n in range(int(os.environ.get("TIMES", 1))):
    if n > 0:
        time.sleep(5)
    print(client.current_user.me().user_name)
