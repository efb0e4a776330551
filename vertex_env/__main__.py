"""`python -m vertex_env`."""

from vertex_env.cli import main

main()
