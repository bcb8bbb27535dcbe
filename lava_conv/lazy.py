"""Packages whose names are imported on first use, so that importing the package loads nothing heavy."""

import importlib
import sys
from collections.abc import Callable, Mapping


def exports(package: str, home: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package.

    Args:
        package: its name.
        home: public name -> the module that defines it.
    """
    names = vars(sys.modules[package])

    def get(name: str) -> object:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        names[name] = getattr(importlib.import_module(home[name]), name)
        return names[name]

    return get, lambda: sorted({*names, *home})
