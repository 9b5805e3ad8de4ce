"""A teacher's answers on disk: written once, read by sample and view.

`StoreWriter` and `label` write, `Store` reads, `verify` checks. What rows look like as bytes is the
business of codecs (`potstill.store.codecs`); that a store is a teacher, of
`potstill.teachers.StoredTeacher`.
"""

from potstill.store.key import StoreKey
from potstill.store.labelling import Labelled, label
from potstill.store.manifest import Manifest, StoredSignal
from potstill.store.reader import Damage, Store, verify
from potstill.store.writer import Answered, StoreWriter

__all__ = [
    "Answered",
    "Damage",
    "Labelled",
    "Manifest",
    "Store",
    "StoreKey",
    "StoreWriter",
    "StoredSignal",
    "label",
    "verify",
]
