"""The network of both students and both teachers."""

from furnace.network.deeplabv3plus import DeepLabV3Plus

build_network = DeepLabV3Plus  # called with (backbone, num_classes, width); its weights are random
