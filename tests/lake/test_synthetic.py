import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from shapely import union_all
from shapely.affinity import translate
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from lake.synthetic import write_slides
from udfs.slide import Area, dimensions, read_area

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_slides(tmp_path_factory.mktemp("synthetic"), slides=4, seed=0)


def rings(slide: Path, group: str) -> list[Polygon]:
    root = ElementTree.parse(slide.with_suffix(".xml")).getroot()
    return [
        Polygon([(float(corner.attrib["X"]), float(corner.attrib["Y"])) for corner in annotation.iter("Coordinate")])
        for annotation in root.iter("Annotation")
        if annotation.attrib["PartOfGroup"] == group
    ]


def tumor_of(slide: Path) -> BaseGeometry:
    return union_all(rings(slide, "Tumor")).difference(union_all(rings(slide, "Exclusion")))


def pixels_of(slide: Path) -> np.ndarray:
    width, height = dimensions(str(slide))
    return read_area(str(slide), Area(0, 0, width, height), width, height)


def test_names_and_tiff_descriptions_say_that_the_slides_are_synthetic(slides):
    assert [slide.name for slide in slides] == [
        "synthetic_tumor_01.tif",
        "synthetic_tumor_02.tif",
        "synthetic_tumor_03.tif",
        "synthetic_normal_01.tif",
    ]
    for slide in slides:
        with tifffile.TiffFile(slide) as tiff:
            assert tiff.pages.first.description == "histolake synthetic slide, not real tissue"


def test_openslide_sees_a_pyramid_at_half_a_micron_per_pixel(slides):
    openslide = pytest.importorskip("openslide")
    with openslide.OpenSlide(slides[0]) as slide:
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert slide.properties["openslide.mpp-x"] == slide.properties["openslide.mpp-y"] == "0.5"
        assert slide.level_dimensions == ((4096, 3072), (2048, 1536), (1024, 768), (512, 384), (256, 192))


def test_the_same_seed_writes_the_same_bytes_also_where_imagecodecs_is_not_installed(slides, tmp_path):
    script = (
        "import sys; sys.modules['imagecodecs'] = None\n"
        "from pathlib import Path; from lake.synthetic import write_slides\n"
        f"write_slides(Path({str(tmp_path)!r}), slides=1, seed=0)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True, timeout=120)
    for written in ("synthetic_tumor_01.tif", "synthetic_tumor_01.xml"):
        assert (tmp_path / written).read_bytes() == slides[0].with_name(written).read_bytes()


def test_another_seed_writes_another_slide(slides, tmp_path):
    (other,) = write_slides(tmp_path, slides=1, seed=1)
    assert rings(other, "Tumor")[0].bounds != rings(slides[0], "Tumor")[0].bounds


def test_tumor_slides_are_annotated_the_first_with_a_hole_and_normal_slides_have_an_empty_list(slides):
    for slide in slides[:3]:
        assert rings(slide, "Tumor")
        assert all(ring.is_valid for ring in rings(slide, "Tumor"))
    (hole,) = rings(slides[0], "Exclusion")
    assert rings(slides[0], "Tumor")[0].contains(hole)
    root = ElementTree.parse(slides[3].with_suffix(".xml")).getroot()
    assert root.find("Annotations") is not None
    assert not list(root.iter("Annotation"))
    assert {group.attrib["Name"] for group in root.iter("Group")} == {"Tumor", "Exclusion"}


def mean_along(pixels: np.ndarray, ring: Polygon, distance: float) -> tuple[float, float]:
    """Mean red of the pixels on the line that runs `distance` outside a ring, and the line's length."""
    line = ring.buffer(distance).exterior
    x, y = np.array([line.interpolate(step).coords[0] for step in np.arange(0, line.length, 1.0)]).astype(int).T
    return float(pixels[y, x].mean()), line.length


@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_pixels_turn_into_tumor_within_two_pixels_of_the_polygon(slides, index):
    """Red light falls where hematoxylin-rich tumor begins: its mean along lines parallel to the outline."""
    pixels = pixels_of(slides[index])[..., 0].astype(float)
    distances = np.arange(-9, 10)
    profiles, lengths = [], []
    for sign, group in ((1, "Tumor"), (-1, "Exclusion")):
        for ring in rings(slides[index], group):
            profile, length = np.array([mean_along(pixels, ring, sign * distance) for distance in distances]).T
            assert profile[-4:].mean() - profile[:4].mean() > 12
            profiles.append(profile)
            lengths.append(length.mean())
    mean = np.average(profiles, axis=0, weights=lengths)
    steepest = int(np.argmax(np.convolve(np.diff(mean), np.ones(2), "valid")))
    assert abs((distances[steepest] + distances[steepest + 2]) / 2) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1, 2])
def test_no_shift_of_the_polygons_by_more_than_two_pixels_fits_the_pixels_better(slides, index):
    pixels = pixels_of(slides[index])[..., 0].astype(float)
    tumors = rings(slides[index], "Tumor")

    def contrast(x: int, y: int) -> float:
        shifted = [translate(ring, x, y) for ring in tumors]
        differences = [mean_along(pixels, ring, 3)[0] - mean_along(pixels, ring, -3)[0] for ring in shifted]
        return float(np.average(differences, weights=[ring.length for ring in tumors]))

    assert max(range(-8, 9), key=lambda x: contrast(x, 0)) in range(-2, 3)
    assert max(range(-8, 9), key=lambda y: contrast(0, y)) in range(-2, 3)


def test_each_slide_is_stained_in_its_own_way(slides):
    colors = []
    for slide in slides:
        pixels = read_area(str(slide), Area(0, 0, 4096, 3072), 512, 384).astype(int)
        colors.append(pixels[pixels.max(axis=2) - pixels.min(axis=2) > 30].mean(axis=0))
    assert np.std(colors, axis=0).max() > 4


def test_glass_is_near_white_with_noise_and_tissue_is_pink_and_purple(slides):
    pixels = pixels_of(slides[0]).astype(int)
    glass = pixels[:80]
    assert 235 < glass.mean() < 250
    assert 0.3 < glass.std() < 6
    tissue = pixels[pixels.max(axis=2) - pixels.min(axis=2) > 30]
    red, green, blue = tissue.mean(axis=0)
    assert len(tissue) > 0.25 * pixels[..., 0].size
    assert red > green + 20
    assert blue > green + 20


def test_mean_color_alone_does_not_tell_tumor_from_the_other_tissue(slides):
    """Follicles of normal tissue are as dark as tumor, and each slide is stained in its own way."""
    tumor, other = [], []
    for slide in slides:
        truth = tumor_of(slide)
        for y in range(0, 3072 - 223, 224):
            for x in range(0, 4096 - 223, 224):
                patch = read_area(str(slide), Area(x, y, 224, 224), 28, 28).astype(int)
                share = truth.intersection(Polygon([(x, y), (x + 224, y), (x + 224, y + 224), (x, y + 224)])).area
                if (patch.max(axis=2) - patch.min(axis=2) > 30).mean() > 0.5:
                    (tumor if share > 224**2 / 2 else other).append(patch[..., 0].mean())
    assert len(tumor) >= 20
    assert len(other) >= 100
    assert np.sum(np.array(other) < np.quantile(tumor, 0.75)) >= 10
