"""Builds the C++ kernels when it can; without a compiler the distribution is pure torch."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

from setuptools import setup

HERE = Path(__file__).parent


def extension() -> dict[str, Any]:
    """Arguments of `setup` for the C++ library; empty when it is not wanted or cannot be had."""
    if os.environ.get("POINT_OPS_BUILD", "1") == "0":
        return {}
    try:
        from torch.utils.cpp_extension import BuildExtension, CppExtension
    except ImportError as error:
        note(f"torch's extension builder does not import ({error})")
        return {}

    class Optional(BuildExtension):  # type: ignore[misc, valid-type]
        """A failed build leaves the torch reference in charge instead of failing the install."""

        def run(self) -> None:
            try:
                super().run()
            except Exception as error:  # whatever the compiler did, pip install must go on
                if os.environ.get("POINT_OPS_BUILD") == "require":
                    raise
                note(f"{type(error).__name__}: {str(error).strip()[:600]}")

        def copy_extensions_to_source(self) -> None:
            built = all(Path(self.get_ext_fullpath(e.name)).exists() for e in self.extensions)
            if built or Path(self.build_lib).is_dir():
                super().copy_extensions_to_source()

    flags = ["-O3", "-std=c++20", "-ffp-contract=off", "-fno-math-errno", "-Wno-psabi", "-g0"]
    flags += os.environ.get("POINT_OPS_CXXFLAGS", "").split()
    link = os.environ.get("POINT_OPS_LDFLAGS", "").split()
    if platform.system() == "Linux":
        flags.append("-fopenmp")
        link.append("-fopenmp")
    sources = sorted(str(p.relative_to(HERE)) for p in (HERE / "csrc").glob("*.cpp"))
    module = CppExtension("point_ops._C", sources, extra_compile_args=flags, extra_link_args=link)
    return {
        "ext_modules": [module],
        "cmdclass": {"build_ext": Optional.with_options(use_ninja=True)},
    }


def note(reason: str) -> None:
    """Say on the build's own output that there will be no C++ kernels."""
    sys.stderr.write(f"point-ops: no C++ kernels, plain torch will serve. Reason: {reason}\n")


setup(**extension())
