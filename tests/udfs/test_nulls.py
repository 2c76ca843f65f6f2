"""Every function is called with nulls: null_handling is 'special', so that none is called behind its back."""

import numpy as np
import pytest
import shapely

from udfs.registry import UDFS

WKB = shapely.to_wkb(shapely.box(0, 0, 9, 9))
ARGUMENTS = {
    "annotation_format": ("XML",),
    "area_of": (WKB,),
    "differing_area": (WKB, WKB),
    "annotated_area": ([WKB], [False]),
    "bounding_box": (WKB,),
    "contains_points": (WKB, [1.0], [1.0]),
    "covered_fractions": (WKB, [1.0], [1.0], [2.0], [2.0]),
    "crop": ("SLIDE", 0, 0, 8.0, 8.0, 8),
    "encode_image": (bytes(8 * 8 * 3), 8, "png"),
    "file_fingerprint": ("SLIDE",),
    "file_hash": ("SLIDE",),
    "lesions": (WKB, 0.5, 0.5),
    "lesions_hit": ([WKB], [1.0], [1.0]),
    "make_point": (1.0, 2.0),
    "point": (shapely.to_wkb(shapely.Point(1, 2)),),
    "read_annotations": ("XML", "asap_xml"),
    "slide_properties": ("SLIDE",),
    "tissue_fraction": ("SLIDE", 0, 0, 8.0, 8.0, 0.05),
    "veiled": ("XML", "shape", "a name"),
}
NOT_NULL = {  # an area that is NULL covers nothing, and no outlines are not hit
    ("contains_points", 0): [False],
    ("covered_fractions", 0): [0.0],
    ("differing_area", 0): 81.0,
    ("differing_area", 1): 81.0,
    ("lesions_hit", 0): [0],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory, write_slide) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("files")
    (folder / "a.xml").write_text("<ASAP_Annotations><Annotations/></ASAP_Annotations>")
    slide = write_slide(folder / "a.tif", np.full((64, 64, 3), 100, np.uint8))
    return {"SLIDE": slide, "XML": str(folder / "a.xml")}


def test_the_list_of_functions_is_complete():
    assert set(ARGUMENTS) == set(UDFS)


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_a_null_in_is_a_null_out_beside_rows_that_are_whole(con, files, name):
    arguments = [files.get(value, value) if isinstance(value, str) else value for value in ARGUMENTS[name]]
    types = [type_ for _, type_ in UDFS[name].parameters]
    columns = ", ".join(f"a{number} {type_}" for number, type_ in enumerate(types))
    con.execute(f"create table rows (id integer, {columns})")
    marks = ", ".join("?" * len(types))
    con.execute(f"insert into rows values (-1, {marks})", arguments)
    for number in range(len(types)):
        holes = [None if at == number else value for at, value in enumerate(arguments)]
        con.execute(f"insert into rows values ({number}, {marks})", holes)
    call = f"{name}({', '.join(f'a{number}' for number in range(len(types)))})"
    found = dict(con.execute(f"select id, {call} from rows").fetchall())
    assert found.pop(-1) is not None
    assert found == {number: NOT_NULL.get((name, number)) for number in range(len(types))}
