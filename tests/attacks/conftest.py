"""The language models of those tests that attack one."""

from tests.llm.tiny import bundled, tiny

__all__ = ["bundled", "tiny"]
