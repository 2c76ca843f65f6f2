"""EfficientNet-Lite0 in PyTorch, as its weights were published, and pictures to show it."""

import numpy as np
import skimage.data
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from udfs.encoders import efficientnet_lite0

# repeats, kernel, stride, expansion, channels in and out: efficientnet_lite_builder.py
BLOCKS = [
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
]


class SameConv(nn.Conv2d):
    """TensorFlow's SAME padding, computed from the image as it comes."""

    def forward(self, x):
        pads = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            lack = max(0, (-(-size // stride) - 1) * stride + kernel - size)
            pads += [lack // 2, lack - lack // 2]
        return super().forward(functional.pad(x, pads))


def norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-3)


class Block(nn.Module):
    """The inverted bottleneck of the original model, under its names."""

    def __init__(self, kernel, stride, expansion, inner, outer):
        super().__init__()
        wide = inner * expansion
        if expansion > 1:
            self._expand_conv, self._bn0 = SameConv(inner, wide, 1, bias=False), norm(wide)
        self._depthwise_conv = SameConv(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = norm(wide)
        self._project_conv, self._bn2 = SameConv(wide, outer, 1, bias=False), norm(outer)
        self.is_residual = stride == 1 and inner == outer

    def forward(self, x):
        y = functional.relu6(self._bn0(self._expand_conv(x))) if hasattr(self, "_expand_conv") else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.is_residual else y


class Original(nn.Module):
    """The PyTorch model that the published weights belong to."""

    def __init__(self):
        super().__init__()
        self._conv_stem, self._bn0 = SameConv(3, 32, 3, 2, bias=False), norm(32)
        self._blocks = nn.ModuleList()
        for repeats, kernel, stride, expansion, inner, outer in BLOCKS:
            self._blocks.append(Block(kernel, stride, expansion, inner, outer))
            self._blocks.extend(Block(kernel, 1, expansion, outer, outer) for _ in range(repeats - 1))
        self._conv_head, self._bn1 = SameConv(320, 1280, 1, bias=False), norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def features(self, pixels):
        x = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127) / 128
        x = functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return functional.relu6(self._bn1(self._conv_head(x))).mean((2, 3))


def load_original():
    """The network with the published weights."""
    model = Original().eval()
    model.load_state_dict(torch.load(efficientnet_lite0.weights_path(), weights_only=True))
    return model


def photographs():
    """A cat, a cup of coffee, and stained tissue: uint8 (3, 224, 224, 3)."""
    images = [skimage.data.chelsea()[:, 75:375], skimage.data.coffee()[:, 100:500], skimage.data.immunohistochemistry()]
    return np.stack([np.asarray(Image.fromarray(image).resize((224, 224))) for image in images])
