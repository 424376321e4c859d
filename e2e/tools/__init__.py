"""Find the pinned tools that the local cluster is made of, or build them by version."""

from __future__ import annotations

from e2e.tools.table import TOOLS, Tool, ToolError, folder_of

__all__ = ["TOOLS", "Tool", "ToolError", "folder_of"]
