"""Build script; it installs the pure-torch distribution for now."""

from setuptools import setup

setup()
