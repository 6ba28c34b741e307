"""The exported release with ten actions at one moment: nothing, six offers, an ad, a panel and a social post.

In: an exported model repository. Out: a copy whose catalogue has six live offers, with a manifest of its own; the
models are those of the release. Called by workload.py.
"""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import orjson

N_OFFERS = 6
N_ACTIONS = N_OFFERS + 4
LIVE_FOR_S = 86_400


def write_ten_actions(exported: Path, folder: Path) -> None:
    """Copy a repository and leave six of the live offers, spread over the catalogue; past and later ones stay.

    exported  what `stratagem export` wrote
    raises    FileNotFoundError  if nothing was exported, or fewer than N_OFFERS offers are live
    """
    manifest = orjson.loads((exported / "manifest.json").read_bytes())
    shutil.rmtree(folder, ignore_errors=True)
    for name in manifest["files"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(exported / name, folder / name)
    catalogue = orjson.loads((exported / "catalogue.json").read_bytes())
    catalogue["offers"] = _six_live(catalogue["offers"], catalogue["as_of_s"])
    content = orjson.dumps(catalogue, option=orjson.OPT_INDENT_2)
    (folder / "catalogue.json").write_bytes(content)
    files = manifest["files"] | {"catalogue.json": hashlib.sha256(content).hexdigest()}
    release = hashlib.sha256(orjson.dumps(files, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]
    # The manifest last: a half-written copy is refused and made again.
    (folder / "manifest.json").write_bytes(orjson.dumps(manifest | {"files": files, "release": release}))


def _six_live(offers: list[dict[str, object]], at_s: int) -> list[dict[str, object]]:
    live = [place for place, offer in enumerate(offers) if offer["starts_s"] <= at_s <= offer["ends_s"]]
    usable = [
        place
        for place in live
        if offers[place]["discount_micros"] is not None and offers[place]["ends_s"] > at_s + LIVE_FOR_S
    ]
    if len(usable) < N_OFFERS:
        raise FileNotFoundError(f"at least {N_OFFERS} offers must be live at {at_s}, got {len(usable)}")
    kept = {usable[place] for place in np.linspace(0, len(usable) - 1, N_OFFERS).astype(int).tolist()}
    return [offer for place, offer in enumerate(offers) if place in kept or place not in live]
