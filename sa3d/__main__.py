"""``python -m sa3d``."""

from sa3d.cli.main import main

main()
