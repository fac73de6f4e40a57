"""The network of students and teachers, which `decoder` and `backbone` name; one of your own: docs/own_network.md."""

from furnace.network.choice import build_network

__all__ = ["build_network"]
