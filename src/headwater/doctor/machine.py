"""Collects installed versions, extras, devices, memory and disk space for `headwater doctor`."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import psutil
import torch

from headwater.base.version import __version__

PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "safetensors", "lancedb", "pyarrow", "numba", "numpy")
EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {
    "serve": (("fastapi", "uvicorn", "prometheus-client"), "headwater serve: the page and the API"),
    "evaluate": (("bm25s", "matplotlib"), "headwater evaluate: bm25, and a plot"),
    "ray": (("ray",), "--engine ray: work shared on a cluster"),
    "peft": (("peft",), "LoRA adapters"),
    "gguf": (("gguf", "accelerate"), "GGUF files"),
    "large": (("accelerate", "bitsandbytes"), "--device-map, --dtype int8 and nf4"),
    "plots": (("matplotlib",), "headwater plot: pictures"),
}
"""Extra -> its packages, and what they enable."""


@dataclass(frozen=True)
class Extra:
    """An optional part of Headwater."""

    name: str
    missing: tuple[str, ...]
    """Packages that are not installed; empty if the extra can be used."""
    enables: str


@dataclass(frozen=True)
class Gpu:
    name: str
    memory: int
    """Bytes."""
    free: int
    bf16: bool


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The part of a bug report about the machine. It contains nothing about the user or their data."""

    headwater: str
    python: str
    system: str
    packages: dict[str, str | None]
    """Name -> version; None if not installed."""
    extras: tuple[Extra, ...]
    cores: int
    """Cores that this process may use."""
    threads: int
    """Threads of torch."""
    omp_num_threads: str | None
    blas: str
    gpus: tuple[Gpu, ...]
    cuda: str | None
    """CUDA version of torch; None for a CPU build."""
    memory: int
    """Total bytes of the machine, regardless of a container's limit."""
    memory_free: int
    disk_free: int
    """Free bytes on the disk of the working directory."""
    temporary_free: int
    """Free bytes on the disk of temporary files."""


def machine() -> Machine:
    """The current state of this machine."""
    memory = psutil.virtual_memory()
    return Machine(
        headwater=__version__,
        python=f"{platform.python_version()} ({platform.python_implementation()})",
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        packages={name: _version(name) for name in PACKAGES},
        extras=tuple(
            Extra(name, tuple(package for package in packages if _version(package) is None), enables)
            for name, (packages, enables) in EXTRAS.items()
        ),
        cores=len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        omp_num_threads=os.environ.get("OMP_NUM_THREADS"),
        blas="MKL" if torch.backends.mkl.is_available() else "not MKL",
        gpus=_gpus(),
        cuda=torch.version.cuda,
        memory=memory.total,
        memory_free=memory.available,
        disk_free=shutil.disk_usage(".").free,
        temporary_free=shutil.disk_usage(tempfile.gettempdir()).free,
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _gpus() -> tuple[Gpu, ...]:
    if not torch.cuda.is_available():
        return ()
    found: list[Gpu] = []
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        with torch.cuda.device(number):
            bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        found.append(Gpu(torch.cuda.get_device_name(number), total, free, bf16))
    return tuple(found)
