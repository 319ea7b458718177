"""Have we seen this picture before?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imgindex.services import catalogue, describe, sync
from imgindex.services.describe import Source
from imgindex.store import images
from imgindex.types import Caller, CollectionNotFound, Hit, Image, InvalidInput, Metadata, SearchAnswer
from matching.fingerprints import FINGERPRINTS, from_hex
from matching.types import MIN_QUALITY, Ids

MAX_LIMIT = 1000

_STRETCH = 2000

_NOTHING: Ids = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class ById:
    """The picture that is stored under an id; it finds itself as well, as any copy of it would."""

    image_id: str


@dataclass(frozen=True, slots=True)
class ByHash:
    """A fingerprint as hexadecimal text."""

    text: str


@dataclass(frozen=True, slots=True)
class _Question:
    codes: tuple[bytes, ...]
    sha256: str | None
    quality: int | None


def search(
    *,
    caller: Caller,
    collection: str,
    query: Source | ById | ByHash,
    hash_type: str = "pdq",
    max_distance: int | None = None,
    limit: int = 20,
    filters: Sequence[Sequence[Metadata]] = (),
    words: Sequence[str] = (),
) -> SearchAnswer:
    """The images within `max_distance` bits of the query, exact and complete up to `limit`, best first.

    Files with the query's own bytes come first. `max_distance` defaults to the fingerprint's radius for
    near-duplicates; `filters` (as in store.images.page) and `words` restrict the metadata. Raises InvalidInput,
    CollectionNotFound, ImageNotFound, and what fetching and decoding raise.
    """
    fingerprint = FINGERPRINTS.get(hash_type)
    if fingerprint is None:
        raise InvalidInput(f"hash_type must be one of {', '.join(FINGERPRINTS)}, not {hash_type!r}.")
    radius = fingerprint.default_radius if max_distance is None else max_distance
    if not 0 <= radius <= fingerprint.bits:
        raise InvalidInput(f"max_distance must be between 0 and {fingerprint.bits} for {hash_type}.")
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"limit must be between 1 and {MAX_LIMIT}.")
    catalogue.check_filters(filters, words)
    if isinstance(query, Source):
        # An unknown collection is said before a picture is fetched for it.
        _collection_id(sync.replica.catch_up(), caller, collection)
    question = _ask(caller, collection, query, hash_type)
    # After the slow part, so that the answer is as fresh as can be.
    state = sync.replica.catch_up()
    position = state.position
    target = _collection_id(state, caller, collection)
    comparable = question.quality is None or question.quality >= MIN_QUALITY
    candidates = _candidates(state, target, hash_type, question.codes, radius) if comparable else _NOTHING
    hits: dict[int, Hit] = {}
    # Nearest first and in stretches: a popular template with ten thousand matches costs no more than its best ones.
    for start in range(0, max(len(candidates), 1), _STRETCH):
        for image, distance in images.hits(
            collection=target,
            candidates=candidates[start : start + _STRETCH].tolist(),
            hash_type=hash_type,
            queries=question.codes,
            radius=radius,
            sha256=question.sha256 if start == 0 else None,
            filters=filters,
            words=words,
            limit=limit,
        ):
            hits.setdefault(image.pk, _hit(image, distance, fingerprint.bits, question.sha256))
        if len(hits) >= limit:
            break
    return SearchAnswer(
        # Sorted again: an image that was replaced meanwhile has another distance than the index gave it a place for.
        hits=sorted(hits.values(), key=lambda hit: (hit.kind != "exact", hit.distance, hit.image.pk))[:limit],
        indexed_through=position.seq,
        hash_type=hash_type,
        max_distance=radius,
        searched_by="fingerprint" if comparable else "bytes",
        quality=question.quality,
    )


def search_metadata(
    *,
    caller: Caller,
    collection: str,
    filters: Sequence[Sequence[Metadata]],
    words: Sequence[str],
    limit: int,
) -> list[Image]:
    """Images by their metadata alone, newest first; raises CollectionNotFound and InvalidInput."""
    catalogue.check_filters(filters, words)
    target = catalogue.collection_get(caller=caller, name=collection)
    return images.search_metadata(collection=target.id, words=words, filters=filters, limit=limit)


def _collection_id(state: sync.State, caller: Caller, name: str) -> int:
    collection = state.collections.get((caller.tenant, name))
    if collection is None:
        raise CollectionNotFound(f"There is no collection named {name!r}.")
    return collection


def _ask(caller: Caller, collection: str, query: Source | ById | ByHash, hash_type: str) -> _Question:
    match query:
        case ByHash(text):
            try:
                return _Question((from_hex(hash_type, text),), None, None)
            except ValueError as exc:
                raise InvalidInput(f"hash: {exc}") from exc
        case ById(image_id):
            image = catalogue.image_get(caller=caller, collection=collection, image_id=image_id)
            return _Question((image.fingerprints[hash_type],), image.sha256, image.quality)
        case _:
            probe = describe.probe(describe.read(query), fingerprint=hash_type)
            return _Question(probe.codes, probe.sha256, probe.quality)


def _candidates(state: sync.State, collection: int, hash_type: str, codes: Sequence[bytes], radius: int) -> Ids:
    """The images within the radius of any of the codes, the nearest first."""
    indexes = state.indexes.get(collection)
    if indexes is None:
        return _NOTHING
    queries = np.frombuffer(b"".join(codes), dtype=np.uint8).reshape(len(codes), -1)
    found = indexes[hash_type].within(queries, radius)
    if len(found) == 1:
        return found[0].ids
    ids = np.concatenate([matches.ids for matches in found])
    distances = np.concatenate([matches.distances for matches in found])
    ordered = ids[np.lexsort((ids, distances))]
    # The first place of each id is its nearest.
    _, first = np.unique(ordered, return_index=True)
    return ordered[np.sort(first)]


def _hit(image: Image, distance: int, bits: int, sha256: str | None) -> Hit:
    return Hit(
        image=image,
        distance=distance,
        similarity=round(100 * (1 - distance / bits), 2),
        kind="exact" if image.sha256 == sha256 else "near",
    )
