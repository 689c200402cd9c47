"""``python -m flows.stack``."""

from flows.stack.command import main

main()
