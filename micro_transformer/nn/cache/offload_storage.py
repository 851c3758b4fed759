"""Where blocks of keys and values can lie when they are not on the device of the net."""

import os
import tempfile
import weakref

import torch
from torch import Tensor


class HostTier:
    """The memory of the CPU beside a GPU, pinned, so that copies run at the speed of the bus."""

    def __init__(self) -> None:
        self._blocks: list[Tensor] = []

    def put(self, block: Tensor) -> None:
        """(2, B, H, n, d): keys and values of the next block."""
        held = torch.empty(block.shape, dtype=block.dtype, pin_memory=block.is_cuda)
        self._blocks.append(held.copy_(block))

    def get(self, index: int, which: int, into: Tensor) -> None:
        """Keys (0) or values (1) of a block, into (B, H, n, d)."""
        into.copy_(self._blocks[index][which], non_blocking=True)

    def nbytes(self) -> tuple[int, int]:
        """Bytes in the CPU's memory, and in a file."""
        return sum(block.nbytes for block in self._blocks), 0


class FileTier:
    """One temporary file without a name; it is gone when the tier is.

    What was read lately may lie in the system's page cache, which is no memory of this process and
    is given up when it is needed. The folder is that of TMPDIR, which should not be a tmpfs.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._starts: list[int] = []
        self._end = 0

    def put(self, block: Tensor) -> None:
        """(2, B, H, n, d): keys and values of the next block."""
        self._starts.append(self._end)
        for half in block:
            self._end += self._file.write(_raw(half.contiguous()))
        self._file.flush()

    def get(self, index: int, which: int, into: Tensor) -> None:
        """Keys (0) or values (1) of a block, into (B, H, n, d)."""
        got = os.preadv(
            self._file.fileno(), [_raw(into)], self._starts[index] + which * into.nbytes
        )
        assert got == into.nbytes, f"{got} of {into.nbytes} bytes came back"

    def nbytes(self) -> tuple[int, int]:
        """Bytes in the CPU's memory, and in a file."""
        return 0, self._end


def _raw(x: Tensor) -> memoryview:
    return memoryview(x.view(torch.uint8).numpy())  # type: ignore[arg-type]
