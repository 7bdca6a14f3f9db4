"""Sets of layers to compare and to tune: those of networks, and others for each kind of convolution.

    python scripts/bench_layers.py                                  # the sets, with their layers by kind
    python scripts/bench_layers.py mobilenet_v2 aspp | tvmconv tune -f -
    python scripts/bench_layers.py resnet50 --layout NCHW --epilogue full --padding symmetric

Prints descriptors, one a line, each once.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from bench_kinds import KINDS
from network_layers import EPILOGUES, NETWORKS

from tvmconv.specs.kinds import Spec

PADDINGS = ("network", "symmetric")
SETS = {**NETWORKS, **KINDS}


def network(name: str, layout: str = "NHWC", epilogue: str = "none", padding: str = "network") -> list[Spec]:
    """The distinct layers of a network or another set, in order of appearance; as `Conv.spec` has it."""
    return list(dict.fromkeys(layer.spec(layout, epilogue, padding) for layer in SETS[name]()))


def main() -> int:
    """Print descriptors, or the sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="SET", help="a network or another set")
    parser.add_argument("--layout", choices=["NHWC", "NCHW"], default="NHWC")
    parser.add_argument(
        "--epilogue", choices=EPILOGUES, default="none", help="full: bias, residual, activation"
    )
    parser.add_argument(
        "--padding", choices=PADDINGS, default="network",
        help="of layers that have SAME in TensorFlow: that, or symmetric as PyTorch has it",
    )  # fmt: skip
    args = parser.parse_args()
    for name in args.sets:
        if name not in SETS:
            parser.error(f"set {name!r}: expected some of {', '.join(SETS)}")
    if not args.sets:
        for name in SETS:
            kinds = Counter(spec.kind for spec in network(name))
            print(f"{name:20}", ", ".join(f"{count} {kind}" for kind, count in kinds.items()))
    found = (network(name, args.layout, args.epilogue, args.padding) for name in args.sets)
    for descriptor in dict.fromkeys(str(spec) for specs in found for spec in specs):
        print(descriptor)
    return 0


if __name__ == "__main__":
    sys.exit(main())
