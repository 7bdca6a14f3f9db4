"""Three networks, whole: the text in a picture is found, turned upright and read by libraries of our own.

The networks (detector, text-direction classifier, recogniser) are those of the PyPI package
rapidocr-onnxruntime, whose wheel is downloaded alone. The picture is a photograph that this script writes on.
Run it through scripts/quickstart.sh, which sets up what it needs. It leaves in the output folder, of each
network, NAME.onnx, NAME.so and NAME.h, and the pictures text.png and boxes.png.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

import tvmconv
from tvmconv.base.clock import each_timed
from tvmconv.network import compile as compile_network

PACKAGE = "rapidocr-onnxruntime==1.4.4"
NETWORKS = {  # file in the wheel, shape of its input
    "detector": ("ch_PP-OCRv4_det_infer.onnx", (1, 3, 384, 512)),
    "classifier": ("ch_ppocr_mobile_v2.0_cls_infer.onnx", (1, 3, 48, 192)),
    "recogniser": ("ch_PP-OCRv4_rec_infer.onnx", (1, 3, 48, 320)),
}
LINES = (  # text, upper left corner, size, colour, upside down
    ("One model, one library", (60, 30), 34, "white", False),
    ("Convolutions", (24, 176), 40, "yellow", False),
    ("fast at 3x3 and 1x1", (150, 322), 30, "white", False),
    ("Upside down", (262, 240), 32, "white", True),
)
ALLOWED_ERROR = 1e-5  # of the range of a network's output
ROUNDS, CALLS = 5, 5  # of the timing


@dataclass
class Network:
    """One network: ours, and ONNX Runtime's sessions with and without its optimisations.

    error: the largest difference between ours and the session without them, over the output's range.
    rounding: likewise between the two sessions. last: the input of the last call.
    """

    ours: tvmconv.Function
    session: onnxruntime.InferenceSession
    plain: onnxruntime.InferenceSession
    shape: tuple[int, ...]
    error: float = 0.0
    rounding: float = 0.0
    last: np.ndarray | None = None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Our result, compared on the way."""
        self.last, y = x, self.ours(x)
        (wanted,), (theirs,) = (session.run(None, {"x": x}) for session in (self.plain, self.session))
        for name, other in (("error", y), ("rounding", theirs)):
            largest = float(np.abs(other - wanted).max() / np.ptp(wanted))
            setattr(self, name, max(getattr(self, name), largest))
        return y

    @property
    def agrees(self) -> bool:
        """Whether ours is as near as ALLOWED_ERROR, or as what rounding does to ONNX Runtime allows."""
        return self.error <= max(ALLOWED_ERROR, 4 * self.rounding)

    def times(self) -> tuple[float, float]:
        """Median seconds of a call, ours and ONNX Runtime's, in turns."""
        feeds = {"x": self.last}
        calls = (lambda: self.ours(self.last), lambda: self.session.run(None, feeds))
        rounds = [[np.median(each_timed(call, CALLS)) for call in calls] for _ in range(ROUNDS)]
        ours, theirs = np.median(rounds, axis=0)
        return float(ours), float(theirs)


def main() -> int:
    """Do it all; returns 1 if a network disagrees with ONNX Runtime or the text is misread."""
    args = arguments()
    fetch_models(args.out)
    networks = {name: compiled(name, args) for name in NETWORKS}
    picture = draw()
    picture.save(args.out / "text.png")
    found = read(picture, **networks)
    drawn = ImageDraw.Draw(picture)
    for box, text, turned in found:
        print(f"  {text!r}" + (" (upside down)" if turned else ""))
        drawn.rectangle(box, outline="red", width=2)
        corner, font = (box[0], box[3] + 1), ImageFont.load_default(14)
        drawn.rectangle(drawn.textbbox(corner, text, font), "white")
        drawn.text(corner, text, "red", font)
    picture.save(args.out / "boxes.png")

    print(f"\n{'network':10}  {'error':>7}  {'rounding':>8}  {'ours':>9}  {'ONNX Runtime':>12}  {'ratio':>5}")
    for name, network in networks.items():
        ours, theirs = network.times()
        print(f"{name:10}  {network.error:7.1e}  {network.rounding:8.1e}  {ours * 1e3:6.2f} ms  "
              f"{theirs * 1e3:9.2f} ms  {theirs / ours:5.2f}")  # fmt: skip
    print("\nerror: largest difference from ONNX Runtime over the output's range; rounding: likewise that of")
    print("ONNX Runtime with and without its optimisations. Allowed: 1e-5, or 4 times rounding if more")
    print(f"picture  {args.out / 'boxes.png'}")
    wrong = [name for name, network in networks.items() if not network.agrees]
    if wrong:
        print(f"quickstart: error: {', '.join(wrong)}: not what ONNX Runtime computes", file=sys.stderr)
    missing = {plain(line[0]) for line in LINES} - {plain(text) for _, text, _ in found}
    if missing:
        print(f"quickstart: error: text not read: {', '.join(sorted(missing))}", file=sys.stderr)
    return 1 if wrong or missing else 0


def arguments() -> argparse.Namespace:
    """What the command line says; the output folder exists afterwards."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("build-quickstart"), help="output folder")
    parser.add_argument("--target", default="native", help="what to compile for; it has to run here")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    return args


def fetch_models(folder: Path) -> None:
    """Take the models out of the package's wheel, which is downloaded without what it depends on."""
    if all((folder / f"{name}.onnx").exists() for name in NETWORKS):
        return
    print(f"downloading {PACKAGE} for its models ...", file=sys.stderr)
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += [
            "--no-deps",
            "--ignore-requires-python",
            "--only-binary=:all:",
            "--dest",
            scratch,
            PACKAGE,
        ]
        if subprocess.run([*command, PACKAGE]).returncode:
            sys.exit(f"quickstart: error: {PACKAGE} could not be downloaded from PyPI")
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name, (member, _) in NETWORKS.items():
                data = archive.read(f"rapidocr_onnxruntime/models/{member}")
                (folder / f"{name}.onnx").write_bytes(data)


def compiled(name: str, args: argparse.Namespace) -> Network:
    """A network as a library, loaded, and in ONNX Runtime."""
    start, model, shape = time.perf_counter(), args.out / f"{name}.onnx", NETWORKS[name][1]
    path = compile_network(model, args.target, shapes={"x": shape}).export(args.out / f"{name}.so")
    size, seconds = path.stat().st_size / 1e6, time.perf_counter() - start
    print(f"compiled {path} ({size:.1f} MB) in {seconds:.1f} s", flush=True)
    levels = onnxruntime.GraphOptimizationLevel
    sessions = [session(model, level) for level in (levels.ORT_ENABLE_ALL, levels.ORT_DISABLE_ALL)]
    return Network(tvmconv.load(path)["main"], *sessions, shape)


def session(model: Path, level: onnxruntime.GraphOptimizationLevel) -> onnxruntime.InferenceSession:
    """A model in ONNX Runtime, whose threads do not spin while they wait: ours run at other times."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = level
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def draw() -> Image.Image:
    """A photograph out of the scikit-image package, with text on it."""
    package = Path(find_spec("skimage").submodule_search_locations[0])
    height, width = NETWORKS["detector"][1][2:]
    with Image.open(package / "data" / "coffee.png") as file:
        picture = file.convert("RGB").resize((width, height))
    for text, corner, size, colour, upside_down in LINES:
        font = ImageFont.load_default(size)
        _, _, right, bottom = font.getbbox(text)
        layer = Image.new("RGBA", (int(right) + 4, int(bottom) + 4))
        ImageDraw.Draw(layer).text((2, 0), text, colour, font)
        layer = layer.rotate(180) if upside_down else layer
        picture.paste(layer, corner, layer)
    return picture


def read(
    picture: Image.Image, detector: Network, classifier: Network, recogniser: Network
) -> list[tuple[tuple[int, int, int, int], str, bool]]:
    """The lines of text in a picture: (box, text, whether upside down)."""
    found = []
    for box in boxes(detector(as_input(picture, detector.shape))[0, 0]):
        line = picture.crop(box)
        upright, turned = classifier(as_input(line, classifier.shape))[0]
        if turned > upright:
            line = line.rotate(180)
        text = decoded(recogniser(as_input(line, recogniser.shape))[0], recogniser.session)
        found.append((box, text, bool(turned > upright)))
    return found


def as_input(picture: Image.Image, shape: tuple[int, ...]) -> np.ndarray:
    """A picture in a network's input: blue, green, red from -1 to 1, padded with zeros on the right."""
    _, channels, height, width = shape
    across = min(width, round(picture.width * height / picture.height))
    pixels = np.asarray(picture.resize((across, height), Image.Resampling.BILINEAR), np.float32)[..., ::-1]
    x = np.zeros((1, channels, height, width), np.float32)
    x[0, :, :, :across] = (pixels / 127.5 - 1).transpose(2, 0, 1)
    return x


def boxes(probability: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Boxes around text, from the map of how likely each pixel is in the (shrunk) middle of some: connected
    pixels, grown by what the detector leaves out (Liao et al., arXiv:1911.08947, section 3.5)."""
    labels, _ = ndimage.label(probability > 0.3)
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if min(height, width) < 4 or probability[labels == number].mean() < 0.6:
            continue
        grow = round(1.6 * height * width / (2 * (height + width)))
        found.append((max(columns.start - grow, 0), max(rows.start - grow, 0),
                      min(columns.stop + grow, probability.shape[1]),
                      min(rows.stop + grow, probability.shape[0])))  # fmt: skip
    return found


def decoded(scores: np.ndarray, session: onnxruntime.InferenceSession) -> str:
    """Text from (positions, characters): the best one of each, repetitions and blanks (0) left out."""
    characters = ["", *session.get_modelmeta().custom_metadata_map["character"].splitlines(), " "]
    best = scores.argmax(-1)
    return "".join(
        characters[one] for one, before in zip(best, [0, *best[:-1]], strict=True) if one != before
    )


def plain(text: str) -> str:
    """Text to compare: the recogniser reads few spaces and some capitals."""
    return text.replace(" ", "").lower()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except tvmconv.Error as error:
        sys.exit(f"quickstart: error: {error}")
