"""The version: what the installed package says of itself, which the build took from the tag of the repository."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["VERSION"]

try:
    VERSION = version("dpmsolver")
except PackageNotFoundError:  # run from a folder of sources that nobody installed
    VERSION = "0+source"
