"""The serving part: HTTP on asyncio and nothing else, and the two protocols."""
