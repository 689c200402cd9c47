"""Passwords out of addresses: an address is shown and written down, a password never."""

from __future__ import annotations

import os
from urllib.parse import unquote, urlsplit, urlunsplit

from sa3d.errors import ConfigError

_WEB = ("http", "https")


def hide_mlflow_credentials() -> None:
    """Move user and password out of ``MLFLOW_TRACKING_URI`` into ``MLFLOW_TRACKING_USERNAME`` and
    ``MLFLOW_TRACKING_PASSWORD``, from where MLflow's client takes them. What is set there stays.

    Raises:
        ConfigError: the address of a database holds a password, which has no such place.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    address, user, password = _apart(uri)
    if user is None:
        return
    if urlsplit(uri).scheme not in _WEB:
        if password is None:
            return  # a user's name alone is no secret
        raise ConfigError(
            f"MLFLOW_TRACKING_URI holds a password ({address}), and would be written into run "
            "folders with it; give the password in PGPASSWORD or ~/.pgpass, or use a server"
        )
    os.environ["MLFLOW_TRACKING_URI"] = address
    os.environ.setdefault("MLFLOW_TRACKING_USERNAME", user)
    if password is not None:
        os.environ.setdefault("MLFLOW_TRACKING_PASSWORD", password)


def hide_prefect_credentials() -> None:
    """Move user and password out of ``PREFECT_API_URL`` into ``PREFECT_API_AUTH_STRING``.

    From there Prefect's client takes them. What is set there stays.

    Must come before the first import of Prefect, which reads both once.
    """
    address, user, password = _apart(os.environ.get("PREFECT_API_URL", ""))
    if user is None:
        return
    os.environ["PREFECT_API_URL"] = address
    os.environ.setdefault("PREFECT_API_AUTH_STRING", f"{user}:{password or ''}")


def _apart(uri: str) -> tuple[str, str | None, str | None]:
    """An address without credentials; the user and the password that it held."""
    parts = urlsplit(uri)
    before, found, host = parts.netloc.rpartition("@")
    if not found:
        return uri, None, None
    user, colon, password = before.partition(":")
    address = urlunsplit(parts._replace(netloc=host))
    return address, unquote(user), unquote(password) if colon else None
