"""``python -m sa3d``."""

from sa3d.cli import main

main()
