"""The demo's own slides: procedural tissue with tumor regions, and their ASAP annotations.

Nothing here comes from a patient: file names and TIFF descriptions say so.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from shapely.geometry import LinearRing, Polygon

from lake.pyramid import write_pyramid
from lake.synthetic_layout import draw_layout
from lake.synthetic_tissue import paint

MPP = 0.5
DESCRIPTION = "histolake synthetic slide, not real tissue"


def write_slides(folder: Path, *, slides: int = 8, seed: int = 0) -> list[Path]:
    """Write synthetic slides and, beside each, its annotations; returns the slides' paths, tumor first.

    A quarter of them, rounded down, are normal. Each slide is a pyramidal TIFF of 4096 x 3072 px at
    0.5 microns per pixel; `NAME.xml` holds its tumors in level-0 pixels, in ASAP's format: groups Tumor
    and Exclusion (holes), none on a normal slide. The same seed writes the same slides; more slides
    leave those of each kind that were there unchanged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    normal = slides // 4
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as pool:  # each slide being painted holds about 500 MB
        tumor_paths = pool.map(lambda index: _write_slide(folder, "tumor", index, seed), range(slides - normal))
        normal_paths = pool.map(lambda index: _write_slide(folder, "normal", index, seed), range(normal))
        return [*tumor_paths, *normal_paths]


def _write_slide(folder: Path, kind: str, index: int, seed: int) -> Path:
    is_tumor = kind == "tumor"
    rng = np.random.default_rng((seed, int(is_tumor), index))
    layout = draw_layout(rng, index if is_tumor else None)
    path = folder / f"synthetic_{kind}_{index + 1:02d}.tif"
    write_pyramid(path, paint(rng, layout), mpp=MPP, description=DESCRIPTION)
    _write_annotations(path.with_suffix(".xml"), layout.tumors)
    return path


def _write_annotations(path: Path, tumors: tuple[Polygon, ...]) -> None:
    """Write ASAP's XML as Camelyon16 has it, with its groups' names from Camelyon17."""
    root = ElementTree.Element("ASAP_Annotations")
    annotations = ElementTree.SubElement(root, "Annotations")
    rings = [("Tumor", tumor.exterior) for tumor in tumors]
    rings += [("Exclusion", hole) for tumor in tumors for hole in tumor.interiors]
    for index, (group, ring) in enumerate(rings):
        _add_annotation(annotations, f"Annotation {index}", group, ring)
    groups = ElementTree.SubElement(root, "AnnotationGroups")
    for name, color in (("Tumor", "#F4A300"), ("Exclusion", "#2D7DD2")):
        group_element = ElementTree.SubElement(groups, "Group", Name=name, PartOfGroup="None", Color=color)
        ElementTree.SubElement(group_element, "Attributes")
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _add_annotation(parent: ElementTree.Element, name: str, group: str, ring: LinearRing) -> None:
    annotation = ElementTree.SubElement(
        parent, "Annotation", Name=name, Type="Polygon", PartOfGroup=group, Color="#F4A300"
    )
    coordinates = ElementTree.SubElement(annotation, "Coordinates")
    for order, (x, y) in enumerate(ring.coords[:-1]):
        ElementTree.SubElement(coordinates, "Coordinate", Order=str(order), X=f"{x:.2f}", Y=f"{y:.2f}")
