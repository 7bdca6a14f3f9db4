"""Functions of any kind of spec, called through the C interface with every buffer next to a guard page. For a
child process: numpy and ctypes only.
"""

import ctypes

import numpy as np
from guard import guarded, guarded_copy, outside_untouched

from tvmconv.formats import manifest
from tvmconv.frontends.verify import FILLS, check
from tvmconv.specs.kinds import parse_spec


class Guarded:
    """A function of a library, with as much of `tvmconv.runtime.Function` as `verify.check` uses."""

    def __init__(self, lib, entry, at):
        self.lib, self.entry, self.at = lib, entry, at

    def bind(self, *weights):
        if not self.entry["packed_bytes"]:
            return lambda *inputs, out: self.call(self.entry["name"], inputs, out)
        size = -(-self.entry["packed_bytes"] // 64) * 64  # aligned at both ends
        packed = guarded((size,), np.uint8, at=self.at)
        given = [None if w is None else guarded_copy(w, at=self.at) for w in weights]
        self.run(f"{self.entry['name']}_prepack", *given, packed)
        assert outside_untouched(packed), f"{self.entry['descriptor']}: written outside of the packed weights"
        return lambda x, *others, out: self.call(self.entry["name"], (x, packed, *others), out)

    def call(self, symbol, inputs, out):
        copies = [guarded_copy(value, at=self.at) for value in inputs]
        y = guarded(out.shape, out.dtype, at=self.at)
        self.run(symbol, *copies, y)
        assert outside_untouched(y), f"{self.entry['descriptor']}: written outside of the result"
        out[...] = y
        return out

    def run(self, symbol, *arrays):
        function = getattr(self.lib, symbol)
        function.argtypes = (ctypes.c_void_p,) * len(arrays)
        status = function(*(None if a is None else a.ctypes.data for a in arrays))
        self.lib.tvmconv_last_error.restype = ctypes.c_char_p
        assert status == 0, f"{symbol}: {status}, {self.lib.tvmconv_last_error()}"


def verify_guarded(library):
    """Verify every function of a library; prints each case before it runs it."""
    lib = ctypes.CDLL(library)
    for entry in manifest.read(library)["functions"]:
        for at in ("end", "start"):
            for fill in FILLS:
                print(f"{entry['descriptor']} {fill}, buffers flush with the {at}", flush=True)
                found = check(Guarded(lib, entry, at), entry, fill)
                assert found.ok, found


def sample_anywhere(library):
    """Deformable convolutions with offsets that are huge, infinite or no number, and on every border."""
    lib = ctypes.CDLL(library)
    rng = np.random.default_rng(3)
    for entry in manifest.read(library)["functions"]:
        spec = parse_spec(entry["descriptor"])
        height, width = spec.in_spatial
        wild = [np.nan, np.inf, -np.inf, 1e9, -1e9, 3e9, 3.4e38, -3.4e38, 2.0**31, -(2.0**31), 1e-40]
        close = [-1, -0.5, 0.5, 1, height, -height, width, -width, height - 0.25, 0.25 - width, 0.0, -0.0]
        arrays = {
            a["name"]: rng.standard_normal(a["shape"]).astype(np.float32)
            for a in entry["arguments"] if a["role"] != "output"
        }
        for values in (wild, close, wild + close * 3):
            arrays["offset"] = rng.choice(np.float32(values), spec.offset_shape)
            expected = spec.reference(arrays)
            for at in ("end", "start"):
                print(f"{entry['descriptor']} offsets such as {values[0]}, flush with the {at}", flush=True)
                bound = Guarded(lib, entry, at).bind(arrays["w"], arrays.get("bias"))
                inputs = [arrays[name] for name in ("x", "offset", "mask") if name in arrays]
                y = bound(*inputs, out=np.zeros(spec.output_shape, np.float32))
                np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
                np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
