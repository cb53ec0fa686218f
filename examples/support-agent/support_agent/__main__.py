"""`python -m support_agent`: run the server."""

from support_agent.server import main

main()
