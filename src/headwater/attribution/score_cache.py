"""Cache of one number per example, computed with a pass over the corpus and stored in the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from torch import Tensor

from headwater.attribution.scan import bound_to
from headwater.base.files import replacing
from headwater.base.lock import exclusive
from headwater.corpus.corpus import Corpus
from headwater.sweep.checkpoint import SweepCheckpoint


def cached_scores(
    path: Path, binding: str, corpus: Corpus, *, compute: Callable[[SweepCheckpoint], Tensor]
) -> NDArray[Any]:
    """[N] float32 from the Parquet file `path`, whose columns are `id` and one with the name of the file.

    If the file is missing, or has another `binding` (the facts that the scores depend on), `compute` makes the N scores
    with a sweep that resumes from the checkpoint. Raises HeadwaterError if another process works on the folder.
    """
    if not bound_to(path, binding):
        with exclusive(path.parent):
            checkpoint = SweepCheckpoint(path.with_suffix(".checkpoint.safetensors"), binding)
            values = compute(checkpoint).reshape(len(corpus)).numpy().astype(np.float32)
            table = pa.table({"id": corpus.ids, path.stem: values})
            with replacing(path) as part:
                metadata = {b"headwater": binding.encode()}
                pq.write_table(table.replace_schema_metadata(metadata), part, write_page_checksum=True)
            checkpoint.remove()
    return pq.read_table(path).column(1).to_numpy()
