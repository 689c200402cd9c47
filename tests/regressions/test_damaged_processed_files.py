"""A processed file with damaged bytes is refused or read; it never holds a command for ever.

Where HDF5 puts text of variable length no checksum protects it, and with a damaged length there the
reader walks on the spot. So the layout has no such text.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from sa3d.data.cloud_table import Cloud, CloudTable
from sa3d.data.store import open_clouds
from sa3d.data.writing import write_clouds
from sa3d.runs.fingerprint import data_digest

SECONDS = 60  # of the processor; it takes about 5
READ_DAMAGED = """
import sys
from pathlib import Path
from sa3d.data.store import open_clouds
from sa3d.errors import DataError
from sa3d.runs.fingerprint import data_digest

path = Path(sys.argv[1])
whole = path.read_bytes()
text = whole.index(b"sa3d-clouds")  # of the first attribute
for place in range(text - 64, text + 320):
    for flipped in (0x5A, whole[place]):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ flipped]) + whole[place + 1 :])
        for read in (open_clouds, data_digest):
            try:
                read(path)
            except DataError:
                pass
print("read or refused")
"""


@pytest.fixture
def written(tmp_path: Path) -> Path:
    points = np.random.default_rng(0).normal(size=(2, 8, 3)).astype(np.float32)
    table = CloudTable(
        ids=["a-µ", "b-µ"],
        labels=np.arange(2),
        split=np.zeros(2, np.uint8),
        family=np.arange(2),
        class_names=("one", "two-µ"),
        source_hash="f00",
        normalisation="subsample",
    )
    return write_clouds(tmp_path / "set.h5", [Cloud(cloud) for cloud in points], table)


def test_damaged_bytes_do_not_keep_a_reader_for_ever(written: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", READ_DAMAGED, str(written)],
        cwd=written.parent,  # without settings, which every refusal would read
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "read or refused\n"), done.stderr


def test_no_text_of_variable_length(written: Path) -> None:
    with h5py.File(written) as file:
        for name, dataset in file.items():
            assert dataset.dtype.kind in "fiuS", name
        for name in file.attrs:
            stored = file.attrs.get_id(name).get_type()
            assert not (stored.get_class() == h5py.h5t.STRING and stored.is_variable_str()), name


def test_files_of_earlier_versions_are_read_as_before(written: Path) -> None:
    """Their attributes had a variable length."""
    new = open_clouds(written)
    with h5py.File(written, "r+") as file:
        for name in ("format", "source_hash", "normalisation", "digest"):
            file.attrs[name] = file.attrs[name].decode()
        assert file.attrs.get_id("digest").get_type().is_variable_str()
    old = open_clouds(written)
    assert (old.digest, old.source_hash, old.normalisation) == (
        new.digest,
        "f00",
        "subsample",
    )
    assert data_digest(written) == new.digest
