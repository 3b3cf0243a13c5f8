"""The official SDK for Python, asking a workspace who it is, with the configuration of its environment."""

from databricks.sdk import WorkspaceClient

print(WorkspaceClient().current_user.me().user_name)
