"""Real clients in a network where every name answers: which host gets the token, and which gets the prompt.

These tests install what they drive, so they are apart from the quick suite: `pytest tests/clients` runs them.
"""
