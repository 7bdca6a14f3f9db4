"""What every kernel must withstand, to be run in a child process because a bad kernel may end it.

Uses a library as its users do: numpy, ``tvmconv.load`` and the C interface, no compiler.
"""

import ctypes

import numpy as np
from checking import assert_right, extra_arrays, linear_part, random_arrays
from guard import aligned, aligned_copy, guarded, guarded_copy, outside_untouched

import tvmconv
from tvmconv.base.dtypes import numpy_dtype
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.reference.floats import conv_reference

FILLS = ("integer", "normal")
EXTRA = ("slopes", "residual")  # a weight, an input


def check_kernels(library, descriptors):
    """Every check on every function; ``descriptors``: name -> descriptor. Prints a case before it runs."""
    module = tvmconv.load(library)
    interface = ctypes.CDLL(library)
    entries = {entry["name"]: entry for entry in module.manifest["functions"]}
    for name, descriptor in descriptors.items():
        spec, function = ConvSpec.parse(descriptor), module[name]
        schedule = entries[name]["schedule"]
        for fill in FILLS:
            print(f"{name} {descriptor} {fill}", flush=True)
            arrays, extra = random_arrays(spec, fill), extra_arrays(spec, fill)
            y = function(*arrays, *extra.values())
            assert_right(spec, y, *arrays, fill, schedule=schedule, **extra)
        check_offsets(spec, function)
        if not schedule.get("combines"):  # where a NaN reaches the tile
            for value in (np.nan, np.inf):
                check_spread_of(spec, function, value)
        check_guarded(spec, interface, name, schedule)


def check_values_and_memory(library, descriptors):
    """As ``check_kernels``, without NaN and infinity: they need a float type of NumPy's."""
    module = tvmconv.load(library)
    interface = ctypes.CDLL(library)
    for name, descriptor in descriptors.items():
        spec, function = ConvSpec.parse(descriptor), module[name]
        for fill in FILLS:
            print(f"{name} {descriptor} {fill}", flush=True)
            arrays, extra = random_arrays(spec, fill), extra_arrays(spec, fill)
            assert_right(spec, function(*arrays, *extra.values()), *arrays, fill, **extra)
        check_offsets(spec, function)
        check_guarded(spec, interface, name)


def check_guarded_only(library, descriptors):
    """The guarded calls alone, with descriptors that need not be the functions' own."""
    interface = ctypes.CDLL(library)
    for name, descriptor in descriptors.items():
        check_guarded(ConvSpec.parse(descriptor), interface, name)


def check_offsets(spec, function):
    """Data at every element-aligned offset within 64 bytes, at another one for each buffer."""
    x, w, bias = random_arrays(spec)
    extra = extra_arrays(spec)
    expected = function(x, w, bias, *extra.values())
    step, dtype = x.itemsize, numpy_dtype(spec.out_dtype)
    for offset in range(0, 64, step):
        print(f"{function.name} {spec} with x {offset} bytes past a multiple of 64", flush=True)
        of_w, of_bias, of_y, of_extra = ((offset + step * shift) % 64 for shift in (3, 6, 11, 14))
        slopes, residual = ([aligned_copy(extra[n], offset=of_extra)] if n in extra else [] for n in EXTRA)
        shifted_bias = None if bias is None else aligned_copy(bias, offset=of_bias)
        bound = function.bind(aligned_copy(w, offset=of_w), shifted_bias, *slopes)
        y = aligned(spec.output_shape, dtype, offset=of_y // dtype.itemsize * dtype.itemsize)
        bound(aligned_copy(x, offset=offset), *residual, out=y)
        np.testing.assert_array_equal(y, expected, err_msg=str(spec))


def check_spread_of(spec, function, value):
    """One NaN or infinity in x reaches the results whose window holds it, and leaves the others alone."""
    x, w, bias = random_arrays(spec)
    w[w == 0] = 1  # infinity times zero would be another matter
    ones, zeros = np.ones_like(w), None if bias is None else np.zeros_like(bias)
    extra = extra_arrays(spec)
    clean = function(x, w, bias, *extra.values())
    for seed in range(3):
        place = tuple(map(int, np.random.default_rng(seed).integers(0, spec.input_shape)))
        what = f"{function.name} {spec} with {value} at {place}"
        print(what, flush=True)
        marked, dirty = np.zeros_like(x), x.copy()
        marked[place], dirty[place] = 1, value
        holds = conv_reference(linear_part(spec), marked, ones, zeros) > 0
        y = function(dirty, w, bias, *extra.values())
        np.testing.assert_array_equal(y[~holds], clean[~holds], err_msg=what)
        # An infinity leaves an activation as infinity, as NaN or as a finite value.
        expected = conv_reference(spec, dirty, w, bias, **extra)
        np.testing.assert_allclose(y[holds], expected[holds], rtol=1e-6, err_msg=what)


def check_guarded(spec, interface, name, schedule=None):
    """Each buffer flush with a guard page at its end, then at its start; inputs on read-only pages.

    Through the C interface, because there the packed weights are a buffer like the others.
    """
    for at in ("end", "start"):
        print(f"{name} {spec}, buffers flush with their {at}", flush=True)
        arrays = random_arrays(spec, "integer")
        x, w, bias = (None if a is None else guarded_copy(a, at=at) for a in arrays)
        extra = {name: guarded_copy(array, at=at) for name, array in extra_arrays(spec, "integer").items()}
        slopes, residual = ([extra[name]] if name in extra else [] for name in EXTRA)
        packed_bytes = getattr(interface, f"{name}_packed_bytes")
        packed_bytes.restype = ctypes.c_size_t
        # A multiple of 64, so that a packed blob can be flush with either page and still be aligned.
        assert packed_bytes() % 64 == 0
        packed = guarded((packed_bytes(),), np.uint8, at=at)
        _call(interface, f"{name}_prepack", w, bias, *slopes, packed)
        y = guarded(spec.output_shape, numpy_dtype(spec.out_dtype), at=at)
        _call(interface, name, x, guarded_copy(packed, at=at), *residual, y)
        assert outside_untouched(packed), f"{spec}: written outside of the packed weights"
        assert outside_untouched(y), f"{spec}: written outside of the result"
        assert_right(spec, y, x, w, bias, "integer", schedule=schedule, **extra)


def _call(interface, symbol, *arrays):
    function = getattr(interface, symbol)
    function.argtypes = (ctypes.c_void_p,) * len(arrays)
    status = function(*(None if a is None else a.ctypes.data for a in arrays))
    interface.tvmconv_last_error.restype = ctypes.c_char_p
    assert status == 0, f"{symbol}: {status}, {interface.tvmconv_last_error()}"
