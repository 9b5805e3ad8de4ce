"""Whether a store answers for what is about to be shown: the same samples in the same views."""

import numpy as np
import torch

from potstill.errors import HandshakeError
from potstill.signals import Origin
from potstill.store.contents import contents_of
from potstill.store.reader import Store


def refuse_other(store: Store, origin: Origin) -> None:
    """Check a whole set against a store, sample by sample and view by view.

    Raises:
        HandshakeError: saying which differs: normalisation, augmentation, views or samples.
    """
    if origin.preparation != store.manifest.key.preparation:
        raise HandshakeError(
            f"The store {store.name} was labelled with another normalisation of the inputs than "
            "training uses. Label again, or normalise as before."
        )
    _check_views(store, origin)
    _check_samples(store, origin)


def _check_views(store: Store, origin: Origin) -> None:
    held, key, name = store.table.views, store.manifest.key, store.name
    if not held:
        raise HandshakeError(f"The store {name} is empty. Fill it with `potstill label`.")
    if origin.augment and not key.augment:
        raise HandshakeError(
            f"The store {name} was labelled without augmentation and training augments with "
            f"{origin.augment}. Label with --views, or switch augmentation off."
        )
    if origin.augment and origin.augment != key.augment:
        raise HandshakeError(
            f"The store {name} was labelled under another augmentation ({key.augment}) than "
            f"training uses ({origin.augment}). Label again, or augment as before."
        )
    if not origin.augment and 0 not in held:
        raise HandshakeError(
            f"The store {name} holds augmented views alone and training shows the samples "
            "as they are. Label again without augmentation, or augment as it was labelled."
        )
    if origin.augment and origin.views is None:
        raise HandshakeError(
            f"Training shows a fresh view each epoch and the store {name} holds {len(held)}. "
            f"Rotate through them: `store.views: {len(held)}`, or Feed(views={len(held)})."
        )


def _check_samples(store: Store, origin: Origin) -> None:
    ids = origin.ids.to(store.table.device)
    shown = range(1, 1 + (origin.views or 1)) if origin.augment else range(1)
    records = torch.stack([store.find(ids, torch.full_like(ids, v)) for v in shown]).cpu()
    lacking = records < 0
    if bool(lacking.any()):
        view, sample = lacking.nonzero()[0].tolist()
        raise HandshakeError(
            f"The store {store.name} lacks {int(lacking.sum()):,} of the "
            f"{lacking.numel():,} samples and views that training shows (first: sample "
            f"{int(origin.ids[sample])}, view {shown[view]}). Finish it with `potstill label`."
        )
    theirs = store.contents_N[records[0].numpy()]
    other = np.flatnonzero(contents_of(origin.inputs) != theirs)
    if len(other):
        raise HandshakeError(
            f"The store {store.name} is of another data set: {len(other):,} of "
            f"{len(theirs):,} samples have other contents (first: sample "
            f"{int(origin.ids[other[0]])}). Label these data, or take those it was labelled on."
        )
