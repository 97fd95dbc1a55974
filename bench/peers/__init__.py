"""Peers, each a program of its own in an environment of its own, so that nothing of theirs touches the product."""
