"""What the models foretell of a shopper, as the profile tells it.

In: what the models foretell of one shopper, and the encoding. Out: an Outlook message. Called by profile.py.
"""

import numpy as np
from stratagem.v1 import profile_pb2

from kernels.future_tags import DAY_S, FUTURE_TAGS
from server.triton.client import Arrays

MICROS = 1_000_000


def outlook_message(foretold: Arrays, encoding: np.void) -> profile_pb2.Outlook:
    """The outlook of the batch's only row.

    foretold  as Models.foretell returns it
    """
    spend_90d, spend_365d = foretold["expected_spend"][0].astype(np.float64).tolist()
    return profile_pb2.Outlook(
        next_kind_prob=encoding["next_kind_prob"].tolist(),
        tags=[
            profile_pb2.FutureTag(name=tag.name, meaning=tag.meaning, prob=prob, horizon_days=tag.horizon_s // DAY_S)
            for tag, prob in zip(FUTURE_TAGS, foretold["tag_prob"][0].tolist(), strict=True)
        ],
        expected_spend_90d_micros=round(spend_90d * MICROS),
        expected_spend_365d_micros=round(spend_365d * MICROS),
        buy_90d_prob=float(foretold["buy_90d_prob"][0, 0]),
    )
