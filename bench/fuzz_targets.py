"""What strangers' files and requests go through, as functions of bytes, each with a few that are sound to begin from.

Whatever the bytes are: a target returns, or raises Broken. A HistolakeError in one sentence is the right answer to what
is not understood.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

import duckdb
import numpy as np
import pyarrow as pa
import shapely
from onnx import TensorProto, helper, numpy_helper
from starlette.applications import Starlette

from lake import ingest, manifest, places, skops_file, workflow
from lake.pyramid import write_pyramid
from lake.tables import TABLES
from lake.tiling import Tiling
from udfs import addresses
from udfs.annotations import read_annotations
from udfs.encoders import onnx_file, trial
from udfs.errors import HistolakeError
from udfs.remote import store_of

LONGEST = 1_200  # characters of a refusal, the folder's name included
FARTHEST = 1e9  # level-0 px, as udfs/annotations says


class Broken(Exception):
    """Bytes that are answered by neither a result nor a sentence."""


class Target(NamedTuple):
    """A way in. attempt: takes the bytes, and a folder to put them into."""

    about: str
    attempt: Callable[[bytes, Path], None]
    seeds: Callable[[], tuple[bytes, ...]]


@contextmanager
def refused() -> Iterator[None]:
    """Lets a HistolakeError pass that is one sentence of bearable length. Raises Broken for another."""
    try:
        yield
    except HistolakeError as error:
        text = str(error)
        if not text.strip() or "\n" in text or len(text) > LONGEST:
            raise Broken(f"no sentence but {text[:LONGEST]!r}") from error


def _annotations(format: str, ending: str) -> Callable[[bytes, Path], None]:
    def attempt(content: bytes, folder: Path) -> None:
        path = folder / f"slide{ending}"
        path.write_bytes(content)
        with refused():
            (rows,) = read_annotations(pa.array([str(path)]), pa.array([format])).to_pylist()
            shapes = shapely.from_wkb([row["geometry"] for row in rows])
            if not shapely.is_valid(shapes).all():
                raise Broken("an annotation is no valid geometry")
            if not (np.abs(shapely.bounds(shapes)[~shapely.is_empty(shapes)]) <= FARTHEST).all():
                raise Broken("an annotation lies where no slide reaches")

    return attempt


def _coordinates(content: bytes, folder: Path) -> None:
    path = folder / "centres.csv"
    path.write_bytes(content)
    with refused():
        ingest.read_coordinates(_database(), ingest.Sources(coords_tumor=[path]))


@cache
def _database() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def _manifest(content: bytes, folder: Path) -> None:
    path = folder / "manifest.csv"
    path.write_bytes(content)
    with refused():
        manifest.read_manifest(path, lambda address: ingest.find_addresses([address])[0])


def _onnx(content: bytes, folder: Path) -> None:
    path = folder / "network.onnx"
    path.write_bytes(content)
    with refused():
        onnx_file.inspect(path)
        onnx_file.external_data(path)


def _encoder(content: bytes, folder: Path) -> None:
    path = folder / "network.onnx"
    path.write_bytes(content)
    with refused():
        trial.tried("fuzzed", path, preprocessing={}, precision="fp32", source="fuzz", seconds=20, memory=2**31)


def _skops(content: bytes, folder: Path) -> None:
    with refused():
        skops_file.loads(content, "fuzzed")


def _address(content: bytes, folder: Path) -> None:
    text = content.decode(errors="surrogateescape")
    for address in (text, *(f"{scheme}{text}" for scheme in addresses.SCHEMES)):
        with refused():
            addresses.checked(address)
            addresses.file_name(address)
            if address.startswith("http"):
                store_of(address).find(address, {".tif"})


def _options(content: bytes, folder: Path) -> None:
    text = content.decode(errors="replace")
    with refused():
        places.area_named(folder, text, None)
    with refused():
        workflow.rule_named(text, "grid-64px")
    numbers = [_number(part) for part in (*text.split(","), *"0000")[:4]]
    with refused():
        whole = [int(number) if abs(number) < 1e18 else 0 for number in numbers]
        row = Tiling(whole[0], numbers[1], stride_px=whole[2], tissue_od=numbers[3]).row()
        pa.Table.from_pylist([row], schema=TABLES["patch_sets"].schema)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _routes(content: bytes, folder: Path) -> None:
    path, _, search = content.partition(b"?")
    asyncio.run(_ask(path, search))


async def _ask(path: bytes, search: bytes) -> None:
    """The app's answer to a request for this path. Raises Broken unless it is one that a browser can be given."""
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "server": ("127.0.0.1", 8501),
        "path": unquote_to_bytes(path).decode(errors="replace"),
        "raw_path": quote_from_bytes(path, b"/%").encode(),
        "root_path": "",
        "query_string": quote_from_bytes(search, b"=&%+").encode(),
        "headers": [(b"host", b"127.0.0.1:8501")],
    }
    told: list[Any] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        told.append(message)

    await _app()(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in told)
    if told[0]["status"] >= 500:
        raise Broken(f"status {told[0]['status']}: {body[:200]!r}")


@cache
def _app() -> Starlette:
    """The app's routes on a small lake."""
    from viewer.routes import ROUTES

    folder = Path(tempfile.mkdtemp(prefix="histolake-fuzz-"))
    pixels = np.full((300, 400, 3), 220, np.uint8)
    pixels[100:200, 100:250] = (200, 120, 160)
    write_pyramid(folder / "one.tif", pixels, mpp=1.0, description="fuzz")
    os.environ["HISTOLAKE_LAKE"] = str(folder / "lake")
    ingest.ingest(folder / "lake", ingest.Sources(slides=[str(folder / "one.tif")]), run_id="fuzz")
    return Starlette(routes=ROUTES)


SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]
BOW = [[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]


def _asap_seeds() -> tuple[bytes, ...]:
    corners = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y},5"/>' for i, (x, y) in enumerate(BOW))
    shape = f'<Annotation Name="A" Type="Polygon" PartOfGroup="Tumor"><Coordinates>{corners}</Coordinates></Annotation>'
    dots = shape.replace("Polygon", "PointSet")
    return (
        f"<ASAP_Annotations><Annotations>{shape}{dots}</Annotations></ASAP_Annotations>".encode(),
        b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c"><!ENTITY d SYSTEM "file:///etc/passwd">]><a>&b;&d;</a>',
        b'<?xml version="1.0" encoding="utf-16"?><ASAP_Annotations/>',
    )


def _geojson_seeds() -> tuple[bytes, ...]:
    about = {"objectType": "annotation", "name": "A", "classification": {"names": ["Tumor", "Positive"]}}
    kinds = [
        {"type": "Polygon", "coordinates": [SQUARE, [[2, 2], [4, 2], [4, 4], [2, 2]]]},
        {"type": "MultiPolygon", "coordinates": [[BOW]]},
        {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [1, 2]}]},
        {"type": "LineString", "coordinates": [[0, 0], [1e308, -1]]},
    ]
    features = [{"type": "Feature", "id": "x", "geometry": kind, "properties": about} for kind in kinds]
    whole = json.dumps({"type": "FeatureCollection", "features": features})
    return whole.encode(), b"\xef\xbb\xbf" + json.dumps(features[0]).encode(), b'{"type":"Feature","id":[]}'


def _ncrf_seeds() -> tuple[bytes, ...]:
    content = {"positive": [{"name": "A", "vertices": SQUARE}], "negative": [{"name": "\ud83d\ude00", "vertices": BOW}]}
    return json.dumps(content).encode(), b'{"positive": [{"name": "\\ud800", "vertices": [[NaN, 1]]}]}'


def _coordinates_seeds() -> tuple[bytes, ...]:
    return b"one,1,2\ntwo,3.5,1e3\n", b'"o,ne",1,2\r\n', b"one,nan,inf\n", b"\xff\xfeo\x00n\x00e\x00"


def _manifest_seeds() -> tuple[bytes, ...]:
    rows = b"one,one.tif,p,train,tumor,0.5\n=cmd|' /C calc'!A0,https://host/two.svs,,,,nan\n"
    return b"slide_id,path,patient_id,split,label,mpp\n" + rows, b'slide_id\n"a\nb"\n', b"\x1f\x8b\x08\x00\x00"


@cache
def _onnx_seeds() -> tuple[bytes, ...]:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8])
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 3])
    steps = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Mul", ["mean", "half"], ["less"]),
        helper.make_node("Flatten", ["less"], ["features"]),
    ]
    half = numpy_helper.from_array(np.array([0.5], np.float32), "half")
    seeds = []
    for location in (None, "weights.bin", "../weights.bin"):
        held = TensorProto.FromString(half.SerializeToString())
        if location is not None:
            held.ClearField("raw_data")
            held.data_location = TensorProto.EXTERNAL
            held.external_data.add(key="location", value=location)
        graph = helper.make_graph(steps, "g", [image], [features], [held])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        seeds.append(model.SerializeToString())
    return tuple(seeds)


@cache
def _skops_seeds() -> tuple[bytes, ...]:
    import skops.io
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(np.eye(4), [0, 1, 0, 1])
    stored = io.BytesIO()
    skops.io.dump(fitted, stored)
    return stored.getvalue(), b"PK\x05\x06" + bytes(18), b"\x80\x04\x95\x00."


def _address_seeds() -> tuple[bytes, ...]:
    return (
        b"host/folder/slide.svs",
        b"user:secret@host/a.tif?X-Amz-Signature=1",
        b"[::1]:99999/%2e%2e/a.tif",
        b"a..b/*.tif",
    )


def _options_seeds() -> tuple[bytes, ...]:
    return b"0,0,100,100", b"nan,inf,-1,1e308", b"covered>=0.5", b"64,0.5,32,0.05"


def _routes_seeds() -> tuple[bytes, ...]:
    return (
        b"/histolake/tiles/one/5/0_0.jpeg",
        b"/histolake/thumbnails/one.jpeg",
        b"/histolake/tiles/../one/99999999999999999999/-1_0.jpeg",
        b"/histolake/annotations/one?version=3",
        b"/histolake/heatmaps/one?model=x&patch_set=y&version=99999999999",
        b"/histolake/hotspots/%00%ff?version=%C2%B2",
    )


TARGETS = {
    "asap": Target("ASAP XML", _annotations("asap_xml", ".xml"), _asap_seeds),
    "geojson": Target("QuPath GeoJSON", _annotations("qupath_geojson", ".geojson"), _geojson_seeds),
    "ncrf": Target("NCRF JSON", _annotations("ncrf_json", ".json"), _ncrf_seeds),
    "coordinates": Target("coordinate lists", _coordinates, _coordinates_seeds),
    "manifest": Target("manifests", _manifest, _manifest_seeds),
    "onnx": Target("ONNX files, as they are looked into", _onnx, _onnx_seeds),
    "encoder": Target("ONNX files, as they are tried", _encoder, _onnx_seeds),
    "skops": Target("models in skops files", _skops, _skops_seeds),
    "address": Target("addresses of slides", _address, _address_seeds),
    "options": Target("regions, tilings, label rules", _options, _options_seeds),
    "routes": Target("requests for tiles and overlays", _routes, _routes_seeds),
}
"""Every way in, by name."""
