"""Building the index of a run, and moving it to an object store."""

from __future__ import annotations

from dataclasses import replace

from headwater.attribution.exact_scores import ExactScoring
from headwater.attribution.index.build import Changes, IndexWork, bring_up_to_date
from headwater.attribution.index.index import Index
from headwater.attribution.index.options import IndexOptions
from headwater.attribution.index.settings import settings_for
from headwater.attribution.index.table import open_table
from headwater.base.lock import exclusive
from headwater.curvature.truncated import truncate
from headwater.runs.manifest import Manifest
from headwater.runs.paths import RunPaths


def moved_to(paths: RunPaths, manifest: Manifest, store: str | None) -> Manifest:
    """Write and return the manifest with the index at the URL `store`. None changes nothing.

    Raises HeadwaterError if the URL cannot be reached.
    """
    if store in (None, manifest.store):
        return manifest
    open_table(str(store))  # raises before anything is written
    moved = replace(manifest, store=store)
    moved.write(paths.folder)
    return moved


def build_index(paths: RunPaths, index: Index, scoring: ExactScoring, *, options: IndexOptions) -> Changes:
    """Sketch every example that is not in the index, and delete the rows of removed examples."""
    context = scoring.context
    curvature = context.curvature
    settings = settings_for(
        scoring.index_binding,
        lambda directions: truncate(curvature, directions).dimensions,
        options,
        existing=index.settings,
    )
    work = IndexWork(
        lm=context.lm,
        corpus=context.corpus,
        curvature=truncate(curvature, settings.directions),
        sketch=settings.sketch,
        url=index.url,
        binding=settings.to_json(),
        execution=context.execution,
    )
    with exclusive(paths.folder):
        return bring_up_to_date(work)
