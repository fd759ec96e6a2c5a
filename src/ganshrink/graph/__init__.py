"""Reading a network: every channel of every tensor becomes an atom, with what ties it to others."""

from ganshrink.graph.trace import trace

__all__ = ["trace"]
