"""Storage for blocks of keys and values outside the net's device: CPU memory or a file."""

import os
import tempfile
import weakref

import torch
from torch import Tensor

# B batch, H heads, n tokens of a block, d head_dim


class HostTier:
    """CPU memory for a net on a GPU, pinned, so that copies run at bus bandwidth."""

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
    """One unnamed temporary file, deleted with this object.

    Recently read blocks may be in the system's page cache, which does not count as memory of this
    process and is evicted under pressure. The folder is TMPDIR, which should not be a tmpfs.
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
    # as bytes: (B, H, n, d · itemsize)
    return memoryview(x.view(torch.uint8).numpy())  # type: ignore[arg-type]
