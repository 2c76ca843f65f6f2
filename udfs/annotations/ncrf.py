"""Reads NCRF's JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from udfs.annotations.json_file import read_json, text_of, vertices
from udfs.annotations.shapes import Annotation, Names, Repairs, annotation, area
from udfs.errors import AnnotationError

GROUPS = {"positive": "ncrf_positive", "negative": "ncrf_negative"}  # QuPath has classes Positive and Negative


def read_ncrf(path: Path) -> Iterator[Annotation]:
    """Polygons of an NCRF JSON file, in the groups 'ncrf_positive' and 'ncrf_negative'.

    Format: `{"positive": [{"name": …, "vertices": [[x, y], …]}, …], "negative": […]}`, as NCRF's
    camelyon16xml2json.py writes it. Names that repeat get a number.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not content or content.keys() - GROUPS:
        raise AnnotationError(f"{path}: not NCRF's JSON of 'positive' and 'negative' polygons; convert it again")
    names, repairs = Names(), Repairs(path)
    for kind, group in GROUPS.items():
        polygons = content.get(kind, [])
        if not isinstance(polygons, list) or not all(isinstance(each, dict) for each in polygons):
            raise AnnotationError(f"{path}: {kind!r} is not a list of polygons; convert it again")
        for polygon in polygons:
            name = names.unique(text_of(path, polygon.get("name") or "Annotation"))
            yield annotation(name, group, *area(repairs, name, vertices(path, name, polygon.get("vertices"))))
