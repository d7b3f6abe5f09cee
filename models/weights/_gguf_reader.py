"""The ``gguf`` package's reader, quick on long lists: it takes a tokenizer's million numbers one by one."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ...core.optional import require

LIST_HEADER_BYTES = 4 + 8  # the kind of its items, and how many there are


@lru_cache(maxsize=1)
def quick_reader() -> type:
    """``GGUFReader`` that reads a list of numbers at once, to the same fields.

    Raises:
        MissingPackageError: ``gguf`` is not installed.
    """
    gguf = require("gguf", "reading GGUF files")
    kinds = gguf.GGUFValueType

    class QuickReader(gguf.GGUFReader):
        def _get_field_parts(self, orig_offs: int, raw_type: int) -> tuple[int, list[Any], list[int], list[Any]]:
            if raw_type == kinds.ARRAY:
                kind, count = self._get(orig_offs, np.uint32), self._get(orig_offs + 4, np.uint64)
                form = self.gguf_scalar_to_np.get(kinds(kind[0]))
                values = self._get(orig_offs + LIST_HEADER_BYTES, form, count[0]) if form and count[0] else ()
                if len(values):
                    rows = np.asarray(values)[:, None]  # of a memmap each row would be one, which takes microseconds
                    parts = [kind, count, *rows]
                    size = LIST_HEADER_BYTES + values.nbytes
                    return size, parts, list(range(2, len(parts))), [kinds.ARRAY, kinds(kind[0])]
            return super()._get_field_parts(orig_offs, raw_type)

    return QuickReader
