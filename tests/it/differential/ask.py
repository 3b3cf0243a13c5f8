"""The official SDK for Python: asks a workspace for its own user name, with its environment's settings."""

from databricks.sdk import WorkspaceClient

print(WorkspaceClient().current_user.me().user_name)
