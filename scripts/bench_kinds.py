"""Sets of layers beside the networks': each kind of convolution, odd shapes, TVM's own table."""

from __future__ import annotations

from collections.abc import Callable

from network_layers import Conv, Fixed, Layers, Pool


def te_workload() -> Layers:
    """Depthwise, grouped and dilated rows of TVM's table of single operators, float32."""
    yield Conv(112, 32, 0, 3, groups=0, pad=1)
    yield Conv(112, 64, 0, 3, 2, groups=0, pad=1)
    yield Conv(14, 512, 0, 3, 2, groups=0, pad=1)
    yield Conv(7, 1024, 0, 3, groups=0, pad=1)
    for groups, dilation in [(4, 1), (1, 2)]:
        if groups == 1:
            yield Conv(224, 3, 64, 7, 2, dilation=dilation, pad=3)
        else:
            yield Conv(56, 64, 128, 3, 2, groups=groups, pad=1)
        yield Conv(56, 64, 64, 1, groups=groups, dilation=dilation, pad=0)
        yield Conv(14, 256, 256, 3, groups=groups, dilation=dilation, pad=1)
        yield Conv(7, 512, 512, 3, groups=groups, dilation=dilation, pad=1)


def odd() -> Layers:
    """Twenty shapes that are not round, next to those of the networks."""
    for image, channels, kernel, stride in [
        (13, 17, 3, 1), (33, 51, 3, 1), (13, 100, 5, 1), (7, 116, 3, 1), (33, 116, 7, 1), (13, 116, 3, 2),
    ]:  # fmt: skip
        yield Conv(image, channels, 0, kernel, stride, groups=0, activation="relu")
    yield Conv(33, 100, 0, 3, groups=0, dilation=2, activation="relu")
    for image, channels, out in [
        (33, 17, 51), (13, 51, 100), (13, 100, 116), (7, 116, 100), (33, 116, 17), (7, 100, 51),
    ]:  # fmt: skip
        yield Conv(image, channels, out, 1, activation="relu")
    for image, channels, out, kernel in [
        (33, 17, 51, 3),
        (13, 51, 100, 3),
        (7, 116, 116, 3),
        (13, 17, 100, 5),
    ]:
        yield Conv(image, channels, out, kernel, activation="relu")
    yield Conv(33, 51, 51, 3, groups=17, activation="relu")
    yield Conv(13, 100, 100, 3, groups=20, activation="relu")
    yield Conv(7, 116, 116, 5, groups=4, activation="relu")


def depthwise() -> Layers:
    """Beside the networks': dilated (DeepLabV3+'s), with a multiplier, larger kernels."""
    for rate in (2, 4, 6, 12, 18):
        yield Conv(33, 256, 0, 3, groups=0, dilation=rate, activation="relu6")
    yield Conv(65, 128, 0, 3, groups=0, dilation=2, activation="relu6")
    for multiplier in (2, 4):
        yield Conv(56, 32, 32 * multiplier, 3, groups=0, activation="relu6")
    yield Conv(28, 96, 0, 5, 2, groups=0, activation="relu6")
    yield Conv(56, 96, 0, 7, groups=0)  # ConvNeXt-T's


def dense() -> Layers:
    """3x3: ResNet's, plain and dilated as segmentation has them, and other kernels."""
    for image, channels in [(56, 64), (28, 128), (14, 256), (7, 512)]:
        yield Conv(image, channels, channels, 3, pad=1, activation="relu")
    for image, channels, dilation in [(28, 256, 2), (28, 512, 4), (65, 64, 2)]:
        yield Conv(image, channels, channels, 3, dilation=dilation, pad=dilation, activation="relu")
    yield Conv(56, 64, 128, 3, 2, pad=1, activation="relu")
    yield Conv(28, 32, 96, 5, pad=2, activation="relu")


def grouped() -> Layers:
    """2 to 64 groups; of ShuffleNet's pointwise layers, too."""
    for groups in (2, 4, 8, 16, 32, 64):
        yield Conv(28, 256, 256, 3, groups=groups, pad=1, activation="relu")
    for image, channels, groups in [(56, 128, 32), (14, 512, 32)]:
        yield Conv(image, channels, channels, 3, 2, groups=groups, pad=1, activation="relu")
    for image, channels, groups in [(28, 240, 3), (14, 544, 8)]:
        yield Conv(image, channels, channels // groups, 1, groups=1, activation="relu")
        yield Conv(image, channels, channels, 1, groups=groups, activation="relu")


def transposed() -> Layers:
    """DCGAN's generator, U-Net's steps up, and upsampling channel by channel."""
    for image, channels, out in [(4, 512, 256), (8, 256, 128), (16, 128, 64), (32, 64, 3)]:
        yield Conv(image, channels, out, 4, 2, pad=1, transposed=True, activation="relu")
    for image, channels, out in [(28, 128, 64), (56, 64, 32)]:
        yield Conv(image, channels, out, 2, 2, pad=0, transposed=True, activation="relu")
    yield Conv(28, 64, 64, 3, transposed=True, pad=1, activation="relu")
    yield Conv(28, 64, 0, 4, 2, groups=0, pad=1, transposed=True)


def deformable() -> Layers:
    """ResNet-50's 3x3 layers of the last three stages, v1 and v2."""
    for image, channels in [(28, 128), (14, 256), (7, 512)]:
        shape = f"deform2d:1x{channels}x{image}x{image}:o{channels}:k3x3:p1"
        yield Fixed(f"{shape}:NCHW:float32")
        yield Fixed(f"{shape}:mask:bias:NCHW:float32")
    yield Fixed("deform2d:1x64x28x28:o64:k3x3:p2:d2:g2:og4:mask:NCHW:float32")


def pooling() -> Layers:
    """Of ResNet, VGG, Inception, SPP, ShuffleNet and MobileNet."""
    yield Pool("max", 112, 64, 3, 2, 1)
    yield Pool("max", 56, 64, 2, 2)
    yield Pool("max", 35, 192, 3, 2, options=("ceil_mode",))
    yield Pool("max", 13, 512, 5, 1, 2)
    yield Pool("avg", 56, 128, 2, 2)
    yield Pool("avg", 35, 192, 3, 1, 1)
    yield Pool("avg", 35, 192, 3, 1, 1, ("count_include_pad",))
    yield Pool("avg", 7, 1024, 0)
    yield Pool("avg", 56, 72, 0)
    yield Pool("max", 14, 256, 0)


def typed(*dtypes: str) -> Layers:
    """One layer of each kind in each of these types."""
    for dtype in dtypes:
        yield Conv(56, 128, 0, 3, groups=0, pad=1, dtype=dtype)
        yield Conv(14, 512, 0, 3, groups=0, pad=1, dtype=dtype)
        yield Conv(56, 64, 128, 1, dtype=dtype)
        yield Conv(14, 512, 512, 1, dtype=dtype)
        yield Conv(28, 128, 128, 3, pad=1, dtype=dtype)
        yield Conv(14, 256, 256, 3, groups=32, pad=1, dtype=dtype)


def int8() -> Layers:
    """ONNX's two: sums in int32 (ConvInteger), quantised in and out (QLinearConv), signed as in TFLite."""
    return typed("uint8/int32", "uint8", "int8")


def half() -> Layers:
    """Types of 16 bits."""
    return typed("float16", "bfloat16")


def _fixed(text: str) -> Layers:
    for line in text.split():
        yield Fixed(f"{line}:float32" if line.endswith(("NCHW", "NHWC")) else line)


def channels_first() -> Layers:
    """Where planes are awkward for vectors: strides, deep channels on small planes, planes far apart, large
    dilations, one and three dimensions, patches, first layers; NCHW."""
    return _fixed("""
        tconv1d:1x1026x224:o1:k1024:s256:NCHW
        conv2d:1x256x33x33:o256:k3x3:d12:p12:NCHW
        conv2d:1x1024x14x14:o2048:k1x1:s2:NCHW
        conv2d:1x3x224x224:o64:k7x7:s2:p3:NCHW
        conv2d:1x64x1000x15:o128:k1x1:NCHW
        conv2d:1x3x224x224:o768:k16x16:s16:NCHW
        conv2d:1x64x56x56:o64:k7x7:p3:NCHW
        conv1d:1x64x16000:o128:k2:d256:p256+0:NCHW
        conv2d:1x512x14x14:o512:k3x3:s2:p1:NCHW
        conv2d:1x128x56x56:o128:k3x3:s2:p1:NCHW
        conv2d:1x3x224x224:o32:k3x3:s2:p1:NCHW
        conv2d:1x256x56x56:o512:k1x1:s2:NCHW
        conv1d:1x512x3000:o512:k3:s2:p1:NCHW
        conv1d:1x512x3000:o512:k2:s2:NCHW
        conv1d:1x1x16000:o64:k16:s8:NCHW
        conv1d:1x1x32000:o80:k80:s4:NCHW
        conv2d:1x3x224x224:o96:k4x4:s4:NCHW
        conv2d:1x2048x7x7:o512:k1x1:NCHW
        conv2d:1x1152x7x7:o320:k1x1:NCHW
        conv2d:1x1024x14x14:o512:k1x1:NCHW
        conv2d:1x512x7x7:o512:k3x3:p1:NCHW
        conv2d:1x64x256x256:o32:k1x1:NCHW
        conv2d:1x64x56x56:o256:k1x1:NCHW
        conv2d:1x256x56x56:o64:k1x1:NCHW
        conv2d:1x512x28x28:o128:k1x1:NCHW
        conv2d:1x24x56x56:o144:k1x1:NCHW
        conv2d:1x1280x1x1:o1000:k1x1:NCHW
        conv2d:1x96x1x1:o24:k1x1:NCHW
        conv2d:1x256x28x28:o256:k3x3:s2:p1:g32:NCHW
        conv2d:1x256x56x56:o256:k3x3:s2:p1:g32:NCHW
        conv3d:1x144x16x56x56:o64:k3x1x1:p1x0x0:NCHW
        conv3d:1x64x16x28x28:o144:k1x3x3:p0x1x1:NCHW
        conv3d:1x3x16x112x112:o64:k3x7x7:s1x2x2:p1x3x3:NCHW
        conv3d:1x64x8x28x28:o128:k3x3x3:s2:p1:NCHW
    """)


def single_rules() -> Layers:
    """Shapes that need a rule of their own: unit dimensions, stride 1 transposed, tiles that spill, large
    images and powers of two of depthwise layers."""
    return _fixed("""
        conv2d:1x640x640x3:o32:k6x6:s2:p2:NHWC
        conv2d:1x640x640x3:o48:k6x6:s2:p2:NHWC
        tconv2d:1x28x28x64:o64:k3x3:p1:NHWC
        tconv2d:1x64x28x28:o64:k3x3:p1:NCHW
        conv3d:1x16x56x56x64:o144:k1x3x3:p0x1x1:NHWC
        conv3d:1x16x56x56x144:o64:k3x1x1:p1x0x0:NHWC
        conv2d:1x512x512x32:o32:k3x3:p1:g32:NHWC
        conv2d:1x256x256x64:o64:k3x3:s2:p1:g64:NHWC
        conv3d:1x16x28x28x128:o128:k5x1x1:p2x0x0:g128:NHWC
        conv3d:1x128x16x28x28:o128:k5x1x1:p2x0x0:g128:NCHW
        conv2d:1x56x56x128:o128:k3x3:p1:g32:NHWC:int8
        conv2d:1x56x56x128:o128:k3x3:p1:g16:NHWC:int8
        conv2d:1x56x56x128:o128:k1x1:g32:NHWC:int8
        conv2d:1x128x56x56:o128:k3x3:p1:g32:NCHW:int8
        conv2d:1x56x56x112:o112:k7x7:p3:g112:NHWC
        conv2d:1x56x56x128:o128:k7x7:p3:g128:NHWC
        conv2d:1x56x56x144:o144:k7x7:p3:g144:NHWC
        conv2d:1x28x28x240:o240:k7x7:p3:g240:NHWC
        conv2d:1x28x28x256:o256:k7x7:p3:g256:NHWC
        conv2d:1x28x28x272:o272:k7x7:p3:g272:NHWC
        conv2d:1x28x28x512:o512:k5x5:p2:g512:NHWC
    """)


def review() -> Layers:
    """Where other engines were ahead, or a rule two or three times off, when all kinds were last looked
    over."""
    yield from _fixed("""
        conv2d:1x512x14x14:o512:k3x3:s2:p1:NCHW
        conv2d:1x1024x14x14:o2048:k1x1:s2:NCHW
        conv1d:1x1x16000:o64:k16:s8:NCHW
        conv1d:1x1x32000:o80:k80:s4:NCHW
        conv1d:1x512x3000:o512:k3:s2:p1:NCHW
        conv2d:1x3x224x224:o96:k4x4:s4:NCHW
        conv2d:1x256x56x56:o256:k7x7:s2:p3:g256:NCHW
        conv2d:1x2048x7x7:o512:k1x1:NCHW
        conv2d:1x1152x7x7:o320:k1x1:NCHW
        conv2d:1x1024x14x14:o512:k1x1:NCHW
        conv2d:1x64x256x256:o32:k1x1:NCHW
        conv2d:1x256x33x33:o256:k3x3:d12:p12:NCHW
        conv3d:1x144x16x56x56:o64:k3x1x1:p1x0x0:NCHW
        conv2d:1x512x7x7:o512:k3x3:p1:NCHW
        conv2d:1x1280x1x1:o1000:k1x1:NCHW
        conv2d:1x512x14x3:o512:k3x3:d2:p2:g32:NCHW
        conv2d:1x96x7x448:o24:k1x1:NCHW
        conv2d:1x64x56x56:o64:k1x7:s2:p0x3:NCHW
        conv2d:4x116x7x7:o116:k3x3:p1:NCHW
        conv2d:1x28x28x128:o128:k3x3:p1:NHWC:uint8
        conv2d:1x56x56x64:o128:k1x1:NHWC:uint8
        conv2d:1x14x14x512:o512:k1x1:NHWC:uint8
        conv2d:1x28x28x128:o128:k3x3:p1:NHWC:int8
        conv2d:1x14x14x512:o512:k1x1:NHWC:int8
    """)
    yield from single_rules()


KINDS: dict[str, Callable[[], Layers]] = {
    "te_workload": te_workload, "odd": odd, "depthwise": depthwise, "dense": dense, "grouped": grouped,
    "transposed": transposed, "deformable": deformable, "pooling": pooling, "int8": int8, "half": half,
    "channels_first": channels_first, "single_rules": single_rules,
    "review": review,
}  # fmt: skip
