"""How busy the machine is while a run computes, under the names that MLflow's own page reads.

A thread takes a sample now and then and hands it to the journal. It knows no server, so a server
that is away neither loses a sample nor holds one up.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import psutil

from sa3d.errors import WriteError

SECTION: Final = "system/"
SECONDS: Final = 10.0


class SystemMetrics:
    """Samples processor, memory, disk and GPU from its making until :meth:`stop`.

    Args:
        record: gets every sample.
        folder: whose disk is watched.
        seconds: between samples.
    """

    def __init__(
        self,
        record: Callable[[Mapping[str, float]], None],
        folder: Path,
        seconds: float = SECONDS,
    ) -> None:
        self._record, self._folder, self._seconds = record, folder, seconds
        self._process = psutil.Process()
        self._gpus = _gpus()
        self._ending = threading.Event()
        psutil.cpu_percent()  # the first call only begins to measure
        self._process.cpu_percent()
        self._thread = threading.Thread(target=self._work, name="system-metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take the last sample: a run shorter than one interval has one as well."""
        self._ending.set()
        self._thread.join()

    def sample(self) -> dict[str, float]:
        """One sample. The processor's load is the mean since the sample before."""
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(self._folder))
        found = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / 1e6,
            "system_memory_usage_percentage": 100.0 * memory.used / memory.total,
            "disk_usage_percentage": disk.percent,
            "disk_usage_megabytes": disk.used / 1e6,
            "disk_available_megabytes": disk.free / 1e6,
            # of this run alone, where several share the machine; 200 is two whole cores
            "process_cpu_percentage": self._process.cpu_percent(),
            "process_memory_megabytes": self._process.memory_info().rss / 1e6,
        }
        for number, gpu in enumerate(self._gpus):
            found |= {f"gpu_{number}_{name}": value for name, value in _gpu_sample(gpu).items()}
        return {SECTION + name: round(float(value), 1) for name, value in found.items()}

    def _work(self) -> None:
        ended = False
        while not ended:
            ended = self._ending.wait(self._seconds)
            try:
                self._record(self.sample())
            except (WriteError, OSError, psutil.Error):
                return  # a full disk, say: training meets it too, and says so


def _gpus() -> list[Any]:
    """NVML's handles of the GPUs that this process may use, in its own order."""
    try:
        import pynvml
    except ImportError:
        return []  # nvidia-ml-py is optional: without it there is no load of GPUs to see
    try:
        pynvml.nvmlInit()
        chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
        if chosen is None:
            names = [str(number) for number in range(pynvml.nvmlDeviceGetCount())]
        else:
            names = [name.strip() for name in chosen.split(",")]
        return [
            pynvml.nvmlDeviceGetHandleByIndex(int(name))
            if name.isdigit()
            else pynvml.nvmlDeviceGetHandleByUUID(name)
            for name in names
            if name not in ("", "-1")
        ]
    except pynvml.NVMLError:
        return []  # no driver, or no such GPU: whoever computes on it says so


def _gpu_sample(gpu: Any) -> dict[str, float]:
    """What NVML tells of a GPU; what a model cannot tell (power, often) is left out."""
    import pynvml

    def memory() -> dict[str, float]:
        told = pynvml.nvmlDeviceGetMemoryInfo(gpu)
        return {
            "memory_usage_percentage": 100.0 * told.used / told.total,
            "memory_usage_megabytes": told.used / 1e6,
        }

    def load() -> dict[str, float]:
        return {"utilization_percentage": pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu}

    def power() -> dict[str, float]:
        watts = pynvml.nvmlDeviceGetPowerUsage(gpu) / 1000.0
        most = pynvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000.0
        return {"power_usage_watts": watts, "power_usage_percentage": 100.0 * watts / most}

    found: dict[str, float] = {}
    for ask in (memory, load, power):
        try:
            found |= ask()
        except pynvml.NVMLError:
            continue
    return found
