"""``healthcheck.py URL STATUS``: exit status 0 if the URL answers with that HTTP status.

For MLflow the URL is one of its API by the name that clients use, and the status 401: its own
``/health`` answers 200 also where the name is refused or nobody has to give a password.
"""

from __future__ import annotations

import sys
import urllib.error
import urllib.request


def status(url: str) -> int:
    """The HTTP status of ``url``; 0 where nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError as error:
        print(error, file=sys.stderr)
        return 0


def main(url: str, expected: str) -> int:
    """The exit status of the check."""
    found = status(url)
    if found != int(expected):
        print(f"{url}: {found} instead of {expected}", file=sys.stderr)
    return int(found != int(expected))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
