"""`python -m vertex_env`."""

from vertex_env.entry import main

main()
