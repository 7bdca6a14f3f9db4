"""Random ONNX models of concatenations, splits, shuffles, residuals, resizes, poolings and arithmetic."""

import numpy as np
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

ACTIVATIONS = ("Relu", "Sigmoid", "HardSwish", "Tanh", "Elu", "Softplus", "LeakyRelu")
COORDINATES = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")


class Building:
    """A model that grows by nodes with weights; every value's shape is known."""

    def __init__(self, draw):
        self.draw, self.nodes, self.weights = draw, [], {}
        channels, height, width = draw(st.integers(1, 8)), draw(st.integers(4, 9)), draw(st.integers(4, 9))
        self.shapes = {"x": (draw(st.integers(1, 2)), channels, height, width)}

    def weight(self, array):
        name = f"w{len(self.weights)}"
        self.weights[name] = np.asarray(array)
        return name

    def random(self, *shape):
        rng = np.random.default_rng(len(self.weights))
        size = max(1, np.prod(shape[1:])) ** 0.5
        return self.weight((rng.standard_normal(shape) / size).astype(np.float32))

    def add(self, op, inputs, *shapes, **attributes):
        names = [f"v{len(self.shapes) + at}" for at in range(len(shapes))]
        self.nodes.append(helper.make_node(op, inputs, names, f"{op}{len(self.nodes)}", **attributes))
        self.shapes.update(zip(names, shapes, strict=True))
        return names[0]

    def any(self, like=None):
        """A value of 4 dims; one with the dims of ``like`` but maybe the channels."""
        images = {name: shape for name, shape in self.shapes.items() if len(shape) == 4}
        found = [name for name, shape in images.items()
                 if like is None or (shape[0], *shape[2:]) == (like[0], *like[2:])]  # fmt: skip
        return self.draw(st.sampled_from(found[-6:]))

    def conv(self):
        x = self.any()
        n, c, h, w = self.shapes[x]
        kernel, out = self.draw(st.sampled_from([1, 3])), self.draw(st.integers(1, 8))
        group = c if self.draw(st.booleans()) else 1
        out = c if group > 1 else out
        pad = kernel // 2 if self.draw(st.booleans()) or min(h, w) < kernel else 0
        inputs = [x, self.random(out, c // group, kernel, kernel)]
        if self.draw(st.booleans()):
            inputs.append(self.random(out))
        size = [s + 2 * pad - kernel + 1 for s in (h, w)]
        self.add("Conv", inputs, (n, out, *size), pads=[pad] * 4, group=group)

    def activation(self):
        x = self.any()
        op = self.draw(st.sampled_from(ACTIVATIONS))
        self.add(op, [x], self.shapes[x])

    def norm(self):
        x = self.any()
        c = self.shapes[x][1]
        variance = self.weight(np.random.default_rng(c).uniform(0.5, 1.5, c).astype(np.float32))
        parts = [self.random(c), self.random(c), self.random(c), variance]
        self.add("BatchNormalization", [x, *parts], self.shapes[x])

    def arithmetic(self):
        x = self.any()
        n, c, h, w = self.shapes[x]
        op = self.draw(st.sampled_from(["Add", "Mul", "Sub", "Max"]))
        same = [name for name, shape in self.shapes.items() if shape == (n, c, h, w)]
        other = self.draw(st.sampled_from(["value", "channels", "number", "pixels"]))
        if other == "value":
            y = self.draw(st.sampled_from(same))
        else:
            y = self.random(*{"channels": (c, 1, 1), "number": (), "pixels": (1, 1, h, w)}[other])
        self.add(op, [x, y] if self.draw(st.booleans()) else [y, x], (n, c, h, w))

    def scaled(self):
        """Squeeze and excite: times what a pooling of it gives."""
        x = self.any()
        n, c, h, w = self.shapes[x]
        pooled = self.add("GlobalAveragePool", [x], (n, c, 1, 1))
        gate = self.add("Sigmoid", [pooled], (n, c, 1, 1))
        self.add("Mul", [x, gate], (n, c, h, w))

    def concat(self):
        first = self.any()
        shape = self.shapes[first]
        parts = [first, *(self.any(shape) for _ in range(self.draw(st.integers(1, 2))))]
        channels = sum(self.shapes[part][1] for part in parts)
        if channels <= 32:
            self.add("Concat", parts, (shape[0], channels, *shape[2:]), axis=1)

    def split(self):
        x = self.any()
        n, c, h, w = self.shapes[x]
        if c > 1:
            at = self.draw(st.integers(1, c - 1))
            sizes = self.weight(np.array([at, c - at]))
            self.add("Split", [x, sizes], (n, at, h, w), (n, c - at, h, w), axis=1)

    def cut(self):
        x, axis = self.any(), self.draw(st.integers(1, 3))
        shape = list(self.shapes[x])
        start = self.draw(st.integers(0, shape[axis] - 1))
        step = self.draw(st.sampled_from([1, 1, 2, -1, -2]))
        shape[axis] = -(-(shape[axis] - start) // step) if step > 0 else start // -step + 1
        end = (1 << 40) * (1 if step > 0 else -1)
        numbers = [self.weight(np.array([n])) for n in (start, end, axis, step)]
        self.add("Slice", [x, *numbers], tuple(shape))

    def shuffle(self):
        x = self.any()
        n, c, h, w = self.shapes[x]
        groups = self.draw(st.sampled_from([g for g in range(1, c + 1) if c % g == 0]))
        split = (n, groups, c // groups, h, w)
        apart = self.add("Reshape", [x, self.weight(np.array(split))], split)
        mixed = self.add("Transpose", [apart], (n, c // groups, groups, h, w), perm=[0, 2, 1, 3, 4])
        self.add("Reshape", [mixed, self.weight(np.array((n, c, h, w)))], (n, c, h, w))

    def resize(self):
        x = self.any()
        n, c, _, _ = self.shapes[x]
        sizes = (n, c, self.draw(st.integers(1, 9)), self.draw(st.integers(1, 9)))
        mode = self.draw(st.sampled_from(["nearest", "linear", "cubic"]))
        places = self.draw(st.sampled_from(COORDINATES))
        self.add("Resize", [x, "", "", self.weight(np.array(sizes))], sizes, mode=mode,
                 coordinate_transformation_mode=places)  # fmt: skip

    def pool(self):
        x = self.any()
        n, c, h, w = self.shapes[x]
        op, stride = self.draw(st.sampled_from(["MaxPool", "AveragePool"])), self.draw(st.integers(1, 2))
        size = [(s + 2 - 3) // stride + 1 for s in (h, w)]
        self.add(op, [x], (n, c, *size), kernel_shape=[3, 3], pads=[1] * 4, strides=[stride] * 2)

    def pad(self):
        x = self.any()
        n, c, h, w = self.shapes[x]
        lo, hi = self.draw(st.integers(0, 1)), self.draw(st.integers(0, 1))
        mode = self.draw(st.sampled_from(["constant", "edge"]))
        pads = self.weight(np.array([0, 0, lo, 1, 0, 0, hi, 0]))
        self.add("Pad", [x, pads], (n, c, h + lo + hi, w + 1), mode=mode)

    def model(self):
        read = {name for node in self.nodes for name in node.input}
        last = [name for node in self.nodes for name in node.output if name not in read]
        graph = helper.make_graph(
            self.nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shapes["x"])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in last],
            [numpy_helper.from_array(array, name) for name, array in self.weights.items()],
        )  # fmt: skip
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


STEPS = ("conv", "conv", "concat", "concat", "split", "shuffle", "activation", "arithmetic", "norm", "scaled",
         "cut", "resize", "pool", "pad")  # fmt: skip


@st.composite
def models(draw, steps=STEPS, most=12):
    """A model of a convolution and at most this many of these steps."""
    building = Building(draw)
    building.conv()
    for step in draw(st.lists(st.sampled_from(steps), min_size=2, max_size=most)):
        getattr(building, step)()
    return building.model()
