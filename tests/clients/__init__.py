"""Real clients in a network where every name answers: which hosts get the token or the prompt.

These tests install the clients, so the quick suite leaves them out: run
`pytest tests/clients`.
"""
