"""Real clients in a network where every name answers: which hosts get the token or the prompt.

These tests install the clients, so they are not part of the quick suite: run `pytest tests/clients`.
"""
