"""The weights that segmentation_models_pytorch and timm offer for their encoders on the Hugging Face hub."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from furnace.errors import CommonInputError, InputError, in_short
from furnace.network.library import TIMM

FILES = ("model.safetensors", "pytorch_model.bin")  # the names that a file of weights may have there
BRING = "bring that file here and set pretrained_model to its path, or to none"


def hub_file(backbone: str) -> Path:
    """Returns the file of an encoder's weights, which is downloaded unless the hub's cache holds it.

    Args:
        backbone: an encoder by its name in segmentation_models_pytorch.

    Raises:
        InputError: the hub has no weights for it, or they are not in the cache and cannot be downloaded.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url  # imports much
    from huggingface_hub.errors import EntryNotFoundError

    repository, revision = _repository(backbone)
    for from_cache in (True, False):
        for name in FILES:
            try:
                with _quiet_hub():
                    if not from_cache:
                        # hf_hub_download asks for minutes until it gives up. This asks once.
                        url = hf_hub_url(repository, name, revision=revision)
                        get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
                    return Path(hf_hub_download(repository, name, revision=revision, local_files_only=from_cache))
            except EntryNotFoundError:
                continue
            except Exception as error:  # whatever a network, a server or a disk can do
                reason, remedy = _explained(error, repository)
                raise CommonInputError(
                    f"pretrained_model: cannot download the hub's weights for {backbone}: {reason}; expected "
                    f"{FILES[0]} of its repository {repository}; {remedy}"
                ) from None
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


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """A context in which the hub's library logs nothing: what matters of it is said in the error's line."""
    from huggingface_hub.utils import logging as hub_logging

    before = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        hub_logging.set_verbosity(before)


def _explained(error: Exception, repository: str) -> tuple[str, str]:
    """Returns what happened when the hub was asked for a file, in a few words, and what helps against it."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

    page = f"{constants.ENDPOINT}/{repository}"
    if isinstance(error, GatedRepoError):
        return "its licence must be accepted first", f"accept it at {page} and log in with `hf auth login`, or {BRING}"
    if isinstance(error, RepositoryNotFoundError):  # the hub says the same of one that only some may see
        return f"{page} is not there, or not for everybody", f"log in with `hf auth login`, or {BRING}"
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, and it is not in the cache", f"unset that, or {BRING}"
    # The hub's library has changed its network library more than once, so that only the names of errors are the same.
    kinds = " ".join(kind.__name__ for kind in type(error).__mro__)
    if "Timeout" in kinds:
        return f"no answer within {constants.HF_HUB_ETAG_TIMEOUT} s", BRING
    if "Connect" in kinds:
        return f"no connection ({str(error).splitlines()[0][:100] if str(error) else type(error).__name__})", BRING
    return in_short(error), BRING
