"""The weights that segmentation_models_pytorch and timm offer for their encoders on the Hugging Face hub."""

from pathlib import Path

from furnace.errors import InputError, in_short
from furnace.network.library import TIMM

FILES = ("model.safetensors", "pytorch_model.bin")  # the names that a file of weights may have there


def hub_file(backbone: str) -> Path:
    """Returns the file of an encoder's weights, which is downloaded unless the hub's cache holds it.

    Args:
        backbone: an encoder by its name in segmentation_models_pytorch.

    Raises:
        InputError: the hub has no weights for it, or they are not in the cache and cannot be downloaded.
    """
    from huggingface_hub import hf_hub_download  # imports much
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    repository, revision = _repository(backbone)
    for from_cache in (True, False):
        for name in FILES:
            try:
                return Path(hf_hub_download(repository, name, revision=revision, local_files_only=from_cache))
            except EntryNotFoundError as error:
                if isinstance(error, LocalEntryNotFoundError) and not from_cache:  # there is no network
                    raise _unreachable(backbone, repository, error) from None
            except Exception as error:  # whatever a network, a server or a disk can do
                raise _unreachable(backbone, repository, error) from None
    raise InputError(
        f"pretrained_model: the hub has no weights for {backbone}: expected {' or '.join(FILES)} in its repository "
        f"{repository}; set pretrained_model to a file, or none"
    )


def _repository(backbone: str) -> tuple[str, str | None]:
    """Returns the hub's repository of an encoder's weights, and the revision that the library means."""
    if backbone.startswith(TIMM):
        from timm.models import get_pretrained_cfg

        known = get_pretrained_cfg(backbone.removeprefix(TIMM))
        if known and known.hf_hub_id:
            return known.hf_hub_id, None
    else:
        from segmentation_models_pytorch.encoders import encoders  # type: ignore[import-untyped]  # it ships no types

        if offered := encoders.get(backbone, {}).get("pretrained_settings"):
            chosen = offered.get("imagenet") or next(iter(offered.values()))
            return chosen["repo_id"], chosen["revision"]
    raise InputError(
        f"pretrained_model: the hub has no weights for backbone={backbone}; set pretrained_model to a file, or none"
    )


def _unreachable(backbone: str, repository: str, error: Exception) -> InputError:
    return InputError(
        f"pretrained_model: cannot download the hub's weights for {backbone}: {in_short(error)}; expected {FILES[0]} "
        f"of its repository {repository}; bring that file here and set pretrained_model to its path, or to none"
    )
