"""Slides of every kind that can be written here, with a name in every place where their format can hold one."""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import tifffile
from PIL import Image, ImageCms, ImageDraw
from planting import BIRTH, LABEL_GREEN, Plant
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import JPEGBaseline8Bit, generate_uid
from support import GLASS, STROMA, TUMOR, asap

WIDTH, HEIGHT, TILE = 1024, 768, 256
TISSUE, TUMOR_BOX = (256, 128, 512, 512), (320, 192, 192, 256)
CM = 10_000  # microns, at 1 micron a pixel
EXIF_DIRECTORY = 34665  # a tag of TIFF, which tifffile does not write
NO_DIRECTORY = EXIF_DIRECTORY - 1  # which it writes in its place

Pixels = np.ndarray


def pixels_of(name: str) -> Pixels:
    """A slide with tissue and tumor; each name has noise of its own."""
    rng = np.random.default_rng(list(name.encode()))
    pixels = np.full((HEIGHT, WIDTH, 3), GLASS, np.float32)
    for (x, y, width, height), colour in ((TISSUE, STROMA), (TUMOR_BOX, TUMOR)):
        pixels[y : y + height, x : x + width] = colour
        pixels[y : y + height, x : x + width] += rng.normal(0, 12, (height, width, 1))
    return pixels.clip(0, 255).astype(np.uint8)


def label_of(text: str, size: tuple[int, int] = (320, 240)) -> Pixels:
    """A label: the colour that is looked for, with a name written on it."""
    picture = Image.new("RGB", size, LABEL_GREEN)
    ImageDraw.Draw(picture).text((20, size[1] // 2), text, "black")
    return np.asarray(picture)


def annotation(plant: Plant, kind: str) -> str:
    """ASAP XML with names in a comment, an attribute that nobody knows, an annotation's name and a group of its own."""
    text = asap([("Tumor", TUMOR_BOX), (plant.name(f"{kind}: group in ASAP XML"), (700, 500, 40, 40))])
    text = text.replace('Name="Annotation 0"', f'Name="{plant.name(f"{kind}: name of an annotation in ASAP XML")}"')
    text = text.replace("<Annotations>", f'<Annotations Author="{plant.name(f"{kind}: attribute in ASAP XML")}">', 1)
    return f"<!-- {plant.name(f'{kind}: comment in ASAP XML')} -->{text}"


def _profile(text: str) -> bytes:
    """An ICC profile whose description is a name: as long as that of sRGB, so that its offsets hold."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    wide = "sRGB built-in".encode("utf-16-be")
    assert wide in profile
    return profile.replace(wide, text[-13:].encode("utf-16-be"))


def _jpeg(pixels: Pixels, exif: bytes = b"", comment: bytes = b"") -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=90, subsampling=0, exif=exif, comment=comment)
    return out.getvalue()


def _exif(plant: Plant, kind: str) -> bytes:
    exif = Image.Exif()
    exif[270] = plant.name(f"{kind}: EXIF ImageDescription of a tile")
    exif[315] = plant.name(f"{kind}: EXIF Artist of a tile")
    exif[306] = BIRTH[0] + " 06:07:08"
    return exif.tobytes()


def _tag_exif(path: Path, plant: Plant, kind: str) -> None:
    """Give the first page of a TIFF a directory of EXIF tags, at the end of the file."""
    texts = {36867: f"{BIRTH[0]} 06:07:08"}  # DateTimeOriginal
    for code, name in {42032: "CameraOwnerName", 42033: "BodySerialNumber", 42016: "ImageUniqueID"}.items():
        texts[code] = plant.name(f"{kind}: EXIF directory, {name}")
    with path.open("r+b") as file:
        where = file.seek(0, io.SEEK_END)
        where += file.write(b"\0" * (where % 2))
        values, after = b"", where + 2 + 12 * len(texts) + 4
        entries = struct.pack("<H", len(texts))
        for code, text in sorted(texts.items()):
            value = text.encode() + b"\0"
            entries += struct.pack("<HHII", code, 2, len(value), after + len(values))
            values += value
        file.write(entries + struct.pack("<I", 0) + values)
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages[0].tags[NO_DIRECTORY]
    with path.open("r+b") as file:
        file.seek(tag.offset)
        file.write(struct.pack("<H", EXIF_DIRECTORY))
        file.seek(tag.valueoffset)
        file.write(struct.pack("<I", where))


def _tags(plant: Plant, kind: str) -> list[tuple[int, str, int, bytes | str | int, bool]]:
    """The tags of TIFF that are free text, a profile or a packet, and an EXIF directory's, for `_tag_exif`."""
    texts = {269: "DocumentName", 271: "Make", 272: "Model", 285: "PageName", 306: "DateTime", 315: "Artist"}
    texts |= {316: "HostComputer", 333: "InkNames", 337: "TargetPrinter", 32781: "ImageID", 33432: "Copyright"}
    texts |= {42112: "GDAL_METADATA", 50708: "UniqueCameraModel", 65000: "a private tag"}
    tags: list[tuple[int, str, int, bytes | str | int, bool]] = []
    for code, name in texts.items():
        value = f"{BIRTH[0]} 06:07:08" if code == 306 else plant.name(f"{kind}: tag {name}")
        tags.append((code, "s", 0, value, False))
    for code, name in {700: "XMP", 33723: "IPTC", 34377: "Photoshop"}.items():
        packet = f"<x><dc:creator>{plant.name(f'{kind}: {name}')}</dc:creator></x>".encode()
        tags.append((code, "B", len(packet), packet, False))
    profile = _profile(plant.name(f"{kind}: ICC profile"))
    tags.append((34675, "B", len(profile), profile, False))
    tags.append((NO_DIRECTORY, "I", 1, 0, False))
    return tags


def generic(folder: Path, name: str, plant: Plant, description: str | None = None, kind: str = "generic TIFF") -> Path:
    """A tiled TIFF of JPEG tiles with EXIF and comments, and a tiled page that is a label and no level."""
    path = folder / f"{name}.tif"
    pixels = pixels_of(name)
    comment = plant.name(f"{kind}: comment of a JPEG tile").encode()
    exif = _exif(plant, kind)
    text = (
        description or f"Patient {plant.name(f'{kind}: ImageDescription')} {plant.number(f'{kind}: ImageDescription')}"
    )
    with tifffile.TiffWriter(path) as tiff:
        for number in range(3):
            level = np.asarray(Image.fromarray(pixels).reduce(2**number))
            tiff.write(
                iter(_jpeg(tile, exif, comment) for tile in _cut(level)),
                shape=level.shape,
                dtype=np.uint8,
                photometric="ycbcr",
                subsampling=(1, 1),
                compression="jpeg",
                tile=(TILE, TILE),
                subfiletype=min(number, 1),
                resolution=(CM / 2**number, CM / 2**number),
                resolutionunit="CENTIMETER",
                description=None if number else text,
                software=plant.name(f"{kind}: Software"),
                extratags=[] if number else _tags(plant, kind),
                metadata=None,
            )
        label = label_of(plant.name(f"{kind}: drawn on a tiled page"))
        tiff.write(label, tile=(TILE, TILE), photometric="rgb", compression="deflate", metadata=None)
    _tag_exif(path, plant, kind)
    return path


def _cut(level: Pixels) -> list[Pixels]:
    height, width = level.shape[:2]
    whole = np.pad(level, ((0, -height % TILE), (0, -width % TILE), (0, 0)), mode="edge")
    return [
        whole[y : y + TILE, x : x + TILE]
        for y in range(0, whole.shape[0], TILE)
        for x in range(0, whole.shape[1], TILE)
    ]


def ome(folder: Path, name: str, plant: Plant) -> Path:
    """A tiled TIFF described by OME XML."""
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'<Experimenter FirstName="{plant.name("OME: FirstName")}" LastName="{plant.name("OME: LastName")}"/>'
        f'<Image ID="Image:0" Name="{plant.name("OME: Name of the image")}">'
        f"<AcquisitionDate>{BIRTH[1]}T06:07:08</AcquisitionDate>"
        f"<Description>{plant.number('OME: Description')}</Description></Image></OME>"
    )
    return generic(folder, name, plant, xml, "OME-TIFF")


def aperio(folder: Path, name: str, plant: Plant) -> Path:
    """A slide as Aperio's scanners write it, with thumbnail, label and macro."""
    path, pixels = folder / f"{name}.svs", pixels_of(name)
    keys = ("Filename", "User", "Patient", "Title", "ImageID", "Barcode", "ScanScope ID", "Slide", "Session Name")
    told = "|".join(f"{key} = {plant.name(f'Aperio: {key}')}" for key in keys)
    head = "Aperio Image Library v12.0.0\r\n"
    about = (
        f"{head}{WIDTH}x{HEIGHT} [0,0 {WIDTH}x{HEIGHT}] ({TILE}x{TILE}) JPEG/RGB Q=90"
        f"|AppMag = 20|MPP = 1.0|Date = {BIRTH[1]}|MRN = {plant.number('Aperio: MRN')}|{told}"
    )
    small = np.asarray(Image.fromarray(pixels).reduce(4))
    pages = [
        (pixels, about, 0, (TILE, TILE)),
        (small, f"{head}thumbnail {plant.name('Aperio: description of the thumbnail')}", 0, None),
        (small, f"{head}{WIDTH}x{HEIGHT} -> {WIDTH // 4}x{HEIGHT // 4}", 0, (TILE, TILE)),
        (label_of(plant.name("Aperio: drawn on the label")), f"{head}label {name} 320x240", 1, None),
        (label_of(plant.name("Aperio: drawn on the macro")), f"{head}macro {name} 320x240", 9, None),
    ]
    with tifffile.TiffWriter(path) as tiff:
        for number, (page, description, subfile, tile) in enumerate(pages):
            tiff.write(
                page,
                photometric="rgb",
                compression="jpeg" if tile else "lzw",
                tile=tile,
                rowsperstrip=None if tile else 16,
                subfiletype=subfile,
                description=description,
                extratags=[] if number else _tags(plant, "Aperio"),
                metadata=None,
            )
    _tag_exif(path, plant, "Aperio")
    return path


def trestle(folder: Path, name: str, plant: Plant) -> Path:
    """A slide as Trestle's scanners write it: its description is lines of keys."""
    path, pixels = folder / f"{name}.tif", pixels_of(name)
    told = f"Background Color=e6e6e6;Patient={plant.name('Trestle: Patient')};Overlaps=0 0 0 0;Objective Power=20"
    with tifffile.TiffWriter(path) as tiff:
        for number in range(2):
            tiff.write(
                np.asarray(Image.fromarray(pixels).reduce(2**number)),
                photometric="rgb",
                compression="jpeg",
                tile=(TILE, TILE),
                software="MedScan",
                resolution=(2**number, 2**number),  # microns a pixel, as Trestle has it
                description=None if number else told,
                extratags=[] if number else _tags(plant, "Trestle"),
                metadata=None,
            )
    _tag_exif(path, plant, "Trestle")
    return path


def philips(folder: Path, name: str, plant: Plant) -> Path:
    """A slide as Philips exports it: XML with barcode, label and macro in it."""
    path, pixels = folder / f"{name}.tiff", pixels_of(name)

    def attribute(key: str, value: str, group: str = "0x0008") -> str:
        return f'<Attribute Name="{key}" Group="{group}" Element="0x0000" PMSVR="IString">{value}</Attribute>'

    def array(key: str, objects: str) -> str:
        head = f'<Attribute Name="{key}" Group="0x301D" Element="0x0000" PMSVR="IDataObjectArray">'
        return f"{head}<Array>{objects}</Array></Attribute>"

    spacings = [f"&quot;{edge}&quot; &quot;{edge}&quot;" for edge in (0.001, 0.002)]  # mm
    levels = "".join(
        f'<DataObject ObjectType="PixelDataRepresentation">{attribute("DICOM_PIXEL_SPACING", spacing)}</DataObject>'
        for spacing in spacings
    )
    wsi = attribute("PIM_DP_IMAGE_TYPE", "WSI") + attribute("DICOM_PIXEL_SPACING", spacings[0])
    wsi += array("PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE", levels)
    pictures = "".join(
        f'<DataObject ObjectType="DPScannedImage">{attribute("PIM_DP_IMAGE_TYPE", kind)}'
        + attribute(
            "PIM_DP_IMAGE_DATA", base64.b64encode(_jpeg(label_of(plant.name(f"Philips: drawn on {kind}")))).decode()
        )
        + "</DataObject>"
        for kind in ("LABELIMAGE", "MACROIMAGE")
    )
    keys = ("DICOM_MANUFACTURER", "PIM_DP_UFS_BARCODE", "DICOM_DEVICE_SERIAL_NUMBER", "PIIM_DP_SCANNER_OPERATOR_ID")
    told = "".join(attribute(key, plant.name(f"Philips: {key}")) for key in keys)
    told += attribute("DICOM_ACQUISITION_DATETIME", BIRTH[2])
    xml = (
        f'<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">{told}'
        + array("PIM_DP_SCANNED_IMAGES", f'<DataObject ObjectType="DPScannedImage">{wsi}</DataObject>{pictures}')
        + "</DataObject>"
    )
    with tifffile.TiffWriter(path) as tiff:
        for number in range(2):
            tiff.write(
                np.asarray(Image.fromarray(pixels).reduce(2**number)),
                photometric="rgb",
                compression="jpeg",
                tile=(TILE, TILE),
                subfiletype=min(number, 1),
                software="Philips DP v1.0",
                description=None if number else xml,
                extratags=[] if number else _tags(plant, "Philips"),
                metadata=None,
            )
    _tag_exif(path, plant, "Philips")
    return path


def dicom(folder: Path, name: str, plant: Plant) -> Path:
    """A DICOM slide: a folder with a volume instance, a label and an overview."""
    inside = folder / name
    inside.mkdir()
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    pictures = {
        "VOLUME": pixels_of(name),
        "LABEL": label_of(plant.name("DICOM: drawn on the label"), (TILE, TILE)),
        "OVERVIEW": label_of(plant.name("DICOM: drawn on the overview"), (TILE, TILE)),
    }
    for number, (flavor, pixels) in enumerate(pictures.items()):
        instance = _instance(plant, flavor, pixels)
        instance.SeriesInstanceUID, instance.StudyInstanceUID = series, study
        instance.FrameOfReferenceUID, instance.InstanceNumber = frame, number + 1
        instance.save_as(inside / f"{name}_{number}.dcm", enforce_file_format=True)
    return inside


def _instance(plant: Plant, flavor: str, pixels: Pixels) -> Dataset:
    told, kind = Dataset(), f"DICOM {flavor}"
    told.file_meta = FileMetaDataset()
    told.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    told.SOPClassUID = told.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
    told.SOPInstanceUID = told.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    for keyword in ("PatientName", "OperatorsName", "ReferringPhysicianName", "InstitutionName", "InstitutionAddress"):
        setattr(told, keyword, plant.name(f"{kind}: {keyword}"))
    for keyword in ("StudyDescription", "SeriesDescription", "ImageComments", "StationName", "ContainerIdentifier"):
        setattr(told, keyword, plant.name(f"{kind}: {keyword}"))
    for keyword in ("BarcodeValue", "LabelText", "ProtocolName", "PatientComments", "DeviceSerialNumber"):
        setattr(told, keyword, plant.name(f"{kind}: {keyword}"))
    for keyword in ("PatientID", "AccessionNumber", "StudyID"):
        setattr(told, keyword, plant.number(f"{kind}: {keyword}"))
    told.PatientBirthDate = told.StudyDate = told.ContentDate = BIRTH[2]
    private = told.private_block(0x0011, plant.name(f"{kind}: private creator"), create=True)
    private.add_new(0x01, "LO", plant.name(f"{kind}: private tag"))
    specimen = Dataset()
    specimen.SpecimenIdentifier, specimen.SpecimenUID = plant.name(f"{kind}: SpecimenIdentifier"), generate_uid()
    told.SpecimenDescriptionSequence = Sequence([specimen])

    height, width = pixels.shape[:2]
    told.Modality, told.ImageType = "SM", ["ORIGINAL", "PRIMARY", flavor, "NONE"]
    told.Manufacturer, told.ManufacturerModelName = "a test", "a test"
    told.TotalPixelMatrixColumns, told.TotalPixelMatrixRows = width, height
    told.Columns = told.Rows = TILE
    told.NumberOfFrames = (-(-width // TILE)) * (-(-height // TILE))
    told.DimensionOrganizationType = "TILED_FULL"
    told.SamplesPerPixel, told.PhotometricInterpretation, told.PlanarConfiguration = 3, "YBR_FULL_422", 0
    told.BitsAllocated, told.BitsStored, told.HighBit, told.PixelRepresentation = 8, 8, 7, 0
    told.ImagedVolumeWidth, told.ImagedVolumeHeight = width / 1000, height / 1000
    measures, optics = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.001, 0.001], 0.001
    optics.ICCProfile, optics.OpticalPathIdentifier = _profile(plant.name(f"{kind}: ICC profile")), "1"
    optics.ObjectiveLensPower = 20
    shared = Dataset()
    shared.PixelMeasuresSequence = Sequence([measures])
    told.SharedFunctionalGroupsSequence, told.OpticalPathSequence = Sequence([shared]), Sequence([optics])
    told.TotalPixelMatrixFocalPlanes, told.NumberOfOpticalPaths = 1, 1
    comment = plant.name(f"{kind}: comment of a frame").encode()
    told.PixelData = encapsulate([_jpeg(tile, _exif(plant, kind), comment) for tile in _cut(pixels)])
    told["PixelData"].is_undefined_length = True
    return told


WRITERS: dict[str, Callable[[Path, str, Plant], Path]] = {
    "generic": generic,
    "ome": ome,
    "aperio": aperio,
    "trestle": trestle,
    "philips": philips,
    "dicom": dicom,
}
"""Each writes a slide of a name into a folder, and says what to ingest."""


def broken(folder: Path, plant: Plant) -> list[Path]:
    """Files that cannot be read, each with a name where the library's complaint may quote it."""
    texts = {
        "no_slide.tif": plant.name("broken: a text file"),
        "bad_key_file.vms": f"[Virtual Microscope Specimen]\nNoLayers=1\n{plant.name('broken: line of a VMS file')}\n",
        "bad_number.vms": f"[Virtual Microscope Specimen]\nNoLayers={plant.name('broken: number in a VMS file')}\n",
        "bad_map.vms": "[Virtual Microscope Specimen]\nNoLayers=1\nNoJpegColumns=1\nNoJpegRows=1\n"
        f"ImageFile={plant.name('broken: name of an image in a VMS file')}.jpg\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    slide = folder / "bad_ini.mrxs"
    slide.write_bytes(b"")
    slide.with_suffix("").mkdir()
    (slide.with_suffix("") / "Slidedat.ini").write_text(
        f"[GENERAL]\nSLIDE_VERSION = 01.02\nSLIDE_ID = {plant.name('broken: SLIDE_ID in Slidedat.ini')}\n"
        f"{plant.name('broken: line of Slidedat.ini')}\n"
    )
    found = [folder / name for name in texts] + [slide]
    for name, software, about in (
        (
            "bad_philips.tiff",
            "Philips DP v1.0",
            '<?xml version="1.0"?><DataObject ObjectType="DPUfsImport"><{0}></DataObject>',
        ),
        (
            "bad_leica.scn",
            "",
            '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01"><{0}></scn>',
        ),
        ("bad_aperio.svs", "", "Aperio Image Library v12\r\n{0}x{0}|MPP = {0}|AppMag = {0}"),
    ):
        path, token = folder / name, plant.name(f"broken: {name}")
        pixels = pixels_of(name)
        about = about.format(token)
        tifffile.imwrite(
            path,
            pixels,
            tile=(TILE, TILE),
            photometric="rgb",
            software=software or None,
            description=about,
            metadata=None,
        )
        found.append(path)
    found += [
        _torn(aperio(folder, "torn", plant), slice(None), plant),
        _torn(aperio(folder, "cut", plant), slice(1, 2), plant),
    ]
    damaged = dicom(folder, "damaged", plant)
    for file in damaged.glob("*.dcm"):
        told = pydicom.dcmread(file)
        del told.TotalPixelMatrixColumns
        told.save_as(file)
    return [*found, damaged]


def _torn(path: Path, which: slice, plant: Plant) -> Path:
    """The slide with names in the place of some of level 0's tiles."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        places = list(zip(page.dataoffsets, page.databytecounts, strict=True))[which]
    text = plant.name("broken: bytes of a tile").encode()
    with path.open("r+b") as file:
        for offset, length in places:
            file.seek(offset)
            file.write((text * (length // len(text) + 1))[:length])
    return path
