"""Dot products of 8-bit integers for which machines have an instruction. No TVM here."""

from __future__ import annotations

from dataclasses import dataclass, field

GPU, AMX = "dp4a_", "tdpb"
WITHIN = 128
"""What the magnitudes of a pair of weights may add up to, so that its products with bytes add up to 16 bits:
255 * 128 fits, 255 * 129 does not."""


@dataclass(frozen=True)
class Dot:
    """A dot product by the name of its instruction: ``size`` elements per word, of type ``x`` in the first
    and ``w`` in the second operand. ``adds``: the instruction accumulates. ``vectors``: for an architecture
    and a number of lanes, the LLVM features any one of which is enough, and the intrinsic."""

    name: str
    size: int
    x: str
    w: str
    adds: bool
    vectors: dict[tuple[str, int], tuple[tuple[str, ...], str]] = field(hash=False)

    @property
    def bits(self) -> int:
        """Of an element as the instruction takes it."""
        return 16 if self.x.endswith("16") else 8

    @property
    def checked(self) -> bool:
        """Whether it saturates, and is exact only with weights that were found to be small (``WITHIN``)."""
        return self.name == "pmaddubsw"

    @property
    def in_tiles(self) -> bool:
        """Whether it multiplies tiles (``lower.amx``)."""
        return self.name.startswith(AMX)

    @property
    def turned(self) -> str:
        """The instruction that takes weights as its first operand, for those ``in_tiles``."""
        return f"{AMX}s{'u' if self.x == 'uint8' else 's'}d"

    @property
    def on_gpu(self) -> bool:
        """Whether it is a function of the CUDA prelude."""
        return self.name.startswith(GPU)

    @property
    def mirrored(self) -> Dot:
        """The same with its operands exchanged, for those ``on_gpu``."""
        a, b = self.name[-4:-2], self.name[-2:]
        return DOTS[f"{GPU}{b}{a}"]


DOTS = {
    dot.name: dot
    for dot in (
        Dot("pmaddwd", 2, "int16", "int16", False, {
            ("x86_64", 16): (("avx512bw",), "llvm.x86.avx512.pmaddw.d.512"),
            ("x86_64", 8): (("avx2",), "llvm.x86.avx2.pmadd.wd"),
            ("x86_64", 4): (("sse2",), "llvm.x86.sse2.pmadd.wd"),
        }),
        # Of its two products the second is by 0.
        Dot("vpdpwssd", 1, "int16", "int16", True, {
            ("x86_64", 16): (("avx512vnni",), "llvm.x86.avx512.vpdpwssd.512"),
            ("x86_64", 8): (("avx512vnni", "avxvnni"), "llvm.x86.avx512.vpdpwssd.256"),
            ("x86_64", 4): (("avx512vnni", "avxvnni"), "llvm.x86.avx512.vpdpwssd.128"),
        }),
        # Sums of two products in 16 bits, which saturate; they are then added as pmaddwd with ones.
        Dot("pmaddubsw", 4, "uint8", "int8", False, {
            ("x86_64", 16): (("avx512bw",), "llvm.x86.avx512.pmaddubs.w.512"),
            ("x86_64", 8): (("avx2",), "llvm.x86.avx2.pmadd.ub.sw"),
            ("x86_64", 4): (("ssse3",), "llvm.x86.ssse3.pmadd.ub.sw.128"),
        }),
        Dot("vpdpbusd", 4, "uint8", "int8", True, {
            ("x86_64", 16): (("avx512vnni",), "llvm.x86.avx512.vpdpbusd.512"),
            ("x86_64", 8): (("avx512vnni", "avxvnni"), "llvm.x86.avx512.vpdpbusd.256"),
            ("x86_64", 4): (("avx512vnni", "avxvnni"), "llvm.x86.avx512.vpdpbusd.128"),
        }),
        Dot("sdot", 4, "int8", "int8", True, {
            ("aarch64", 4): (("dotprod",), "llvm.aarch64.neon.sdot.v4i32.v16i8"),
            ("aarch64", 2): (("dotprod",), "llvm.aarch64.neon.sdot.v2i32.v8i8"),
            ("armv7", 4): (("dotprod",), "llvm.arm.neon.sdot.v4i32.v16i8"),
            ("armv7", 2): (("dotprod",), "llvm.arm.neon.sdot.v2i32.v8i8"),
        }),
        # AMX's.
        Dot("tdpbssd", 4, "int8", "int8", True, {}),
        Dot("tdpbusd", 4, "uint8", "int8", True, {}),
        # A GPU's, of one thread or as the products of tensor cores.
        Dot("dp4a_s8s8", 4, "int8", "int8", True, {}),
        Dot("dp4a_u8s8", 4, "uint8", "int8", True, {}),
        Dot("dp4a_s8u8", 4, "int8", "uint8", True, {}),
    )
}  # fmt: skip
