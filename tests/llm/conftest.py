"""The language models of these tests."""

from tests.llm.tiny import bundled, cards, tiny

__all__ = ["bundled", "cards", "tiny"]
