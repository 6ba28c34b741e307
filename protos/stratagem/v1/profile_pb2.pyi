from stratagem.v1 import event_pb2 as _event_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Tier(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TIER_UNSPECIFIED: _ClassVar[Tier]
    TIER_CHAMPION: _ClassVar[Tier]
    TIER_LOYAL: _ClassVar[Tier]
    TIER_BIG_SPENDER: _ClassVar[Tier]
    TIER_RECENT: _ClassVar[Tier]
    TIER_SLIPPING: _ClassVar[Tier]
    TIER_OCCASIONAL: _ClassVar[Tier]
    TIER_DORMANT: _ClassVar[Tier]

class PriceSensitivity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRICE_SENSITIVITY_UNSPECIFIED: _ClassVar[PriceSensitivity]
    PRICE_SENSITIVITY_LOW: _ClassVar[PriceSensitivity]
    PRICE_SENSITIVITY_MEDIUM: _ClassVar[PriceSensitivity]
    PRICE_SENSITIVITY_HIGH: _ClassVar[PriceSensitivity]

class Lifecycle(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LIFECYCLE_UNSPECIFIED: _ClassVar[Lifecycle]
    LIFECYCLE_PROSPECT: _ClassVar[Lifecycle]
    LIFECYCLE_NEW: _ClassVar[Lifecycle]
    LIFECYCLE_ACTIVE: _ClassVar[Lifecycle]
    LIFECYCLE_AT_RISK: _ClassVar[Lifecycle]
    LIFECYCLE_LAPSED: _ClassVar[Lifecycle]
    LIFECYCLE_WON_BACK: _ClassVar[Lifecycle]
TIER_UNSPECIFIED: Tier
TIER_CHAMPION: Tier
TIER_LOYAL: Tier
TIER_BIG_SPENDER: Tier
TIER_RECENT: Tier
TIER_SLIPPING: Tier
TIER_OCCASIONAL: Tier
TIER_DORMANT: Tier
PRICE_SENSITIVITY_UNSPECIFIED: PriceSensitivity
PRICE_SENSITIVITY_LOW: PriceSensitivity
PRICE_SENSITIVITY_MEDIUM: PriceSensitivity
PRICE_SENSITIVITY_HIGH: PriceSensitivity
LIFECYCLE_UNSPECIFIED: Lifecycle
LIFECYCLE_PROSPECT: Lifecycle
LIFECYCLE_NEW: Lifecycle
LIFECYCLE_ACTIVE: Lifecycle
LIFECYCLE_AT_RISK: Lifecycle
LIFECYCLE_LAPSED: Lifecycle
LIFECYCLE_WON_BACK: Lifecycle

class GetRequest(_message.Message):
    __slots__ = ("shopper_id", "time_s")
    SHOPPER_ID_FIELD_NUMBER: _ClassVar[int]
    TIME_S_FIELD_NUMBER: _ClassVar[int]
    shopper_id: str
    time_s: int
    def __init__(self, shopper_id: _Optional[str] = ..., time_s: _Optional[int] = ...) -> None: ...

class Summary(_message.Message):
    __slots__ = ("recency_days", "n_orders", "paid_micros", "discount_share", "top_categories")
    RECENCY_DAYS_FIELD_NUMBER: _ClassVar[int]
    N_ORDERS_FIELD_NUMBER: _ClassVar[int]
    PAID_MICROS_FIELD_NUMBER: _ClassVar[int]
    DISCOUNT_SHARE_FIELD_NUMBER: _ClassVar[int]
    TOP_CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    recency_days: float
    n_orders: int
    paid_micros: int
    discount_share: float
    top_categories: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, recency_days: _Optional[float] = ..., n_orders: _Optional[int] = ..., paid_micros: _Optional[int] = ..., discount_share: _Optional[float] = ..., top_categories: _Optional[_Iterable[str]] = ...) -> None: ...

class Affinity(_message.Message):
    __slots__ = ("category", "lift")
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    LIFT_FIELD_NUMBER: _ClassVar[int]
    category: str
    lift: float
    def __init__(self, category: _Optional[str] = ..., lift: _Optional[float] = ...) -> None: ...

class ShopperTags(_message.Message):
    __slots__ = ("recency_score", "frequency_score", "monetary_score", "tier", "affinities", "price_sensitivity", "price_sensitivity_rank", "promoted_line_share", "price_position", "churn_prob", "churn_weeks", "expected_gap_days", "lifecycle")
    RECENCY_SCORE_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_SCORE_FIELD_NUMBER: _ClassVar[int]
    MONETARY_SCORE_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    AFFINITIES_FIELD_NUMBER: _ClassVar[int]
    PRICE_SENSITIVITY_FIELD_NUMBER: _ClassVar[int]
    PRICE_SENSITIVITY_RANK_FIELD_NUMBER: _ClassVar[int]
    PROMOTED_LINE_SHARE_FIELD_NUMBER: _ClassVar[int]
    PRICE_POSITION_FIELD_NUMBER: _ClassVar[int]
    CHURN_PROB_FIELD_NUMBER: _ClassVar[int]
    CHURN_WEEKS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GAP_DAYS_FIELD_NUMBER: _ClassVar[int]
    LIFECYCLE_FIELD_NUMBER: _ClassVar[int]
    recency_score: int
    frequency_score: int
    monetary_score: int
    tier: Tier
    affinities: _containers.RepeatedCompositeFieldContainer[Affinity]
    price_sensitivity: PriceSensitivity
    price_sensitivity_rank: float
    promoted_line_share: float
    price_position: float
    churn_prob: float
    churn_weeks: int
    expected_gap_days: float
    lifecycle: Lifecycle
    def __init__(self, recency_score: _Optional[int] = ..., frequency_score: _Optional[int] = ..., monetary_score: _Optional[int] = ..., tier: _Optional[_Union[Tier, str]] = ..., affinities: _Optional[_Iterable[_Union[Affinity, _Mapping]]] = ..., price_sensitivity: _Optional[_Union[PriceSensitivity, str]] = ..., price_sensitivity_rank: _Optional[float] = ..., promoted_line_share: _Optional[float] = ..., price_position: _Optional[float] = ..., churn_prob: _Optional[float] = ..., churn_weeks: _Optional[int] = ..., expected_gap_days: _Optional[float] = ..., lifecycle: _Optional[_Union[Lifecycle, str]] = ...) -> None: ...

class LatestEvent(_message.Message):
    __slots__ = ("time_s", "kind", "item_id", "title", "paid_micros")
    TIME_S_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    PAID_MICROS_FIELD_NUMBER: _ClassVar[int]
    time_s: int
    kind: _event_pb2.EventKind
    item_id: str
    title: str
    paid_micros: int
    def __init__(self, time_s: _Optional[int] = ..., kind: _Optional[_Union[_event_pb2.EventKind, str]] = ..., item_id: _Optional[str] = ..., title: _Optional[str] = ..., paid_micros: _Optional[int] = ...) -> None: ...

class FutureTag(_message.Message):
    __slots__ = ("name", "meaning", "prob", "horizon_days")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MEANING_FIELD_NUMBER: _ClassVar[int]
    PROB_FIELD_NUMBER: _ClassVar[int]
    HORIZON_DAYS_FIELD_NUMBER: _ClassVar[int]
    name: str
    meaning: str
    prob: float
    horizon_days: int
    def __init__(self, name: _Optional[str] = ..., meaning: _Optional[str] = ..., prob: _Optional[float] = ..., horizon_days: _Optional[int] = ...) -> None: ...

class Outlook(_message.Message):
    __slots__ = ("next_kind_prob", "tags", "expected_spend_90d_micros", "expected_spend_365d_micros", "buy_90d_prob")
    NEXT_KIND_PROB_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_SPEND_90D_MICROS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_SPEND_365D_MICROS_FIELD_NUMBER: _ClassVar[int]
    BUY_90D_PROB_FIELD_NUMBER: _ClassVar[int]
    next_kind_prob: _containers.RepeatedScalarFieldContainer[float]
    tags: _containers.RepeatedCompositeFieldContainer[FutureTag]
    expected_spend_90d_micros: int
    expected_spend_365d_micros: int
    buy_90d_prob: float
    def __init__(self, next_kind_prob: _Optional[_Iterable[float]] = ..., tags: _Optional[_Iterable[_Union[FutureTag, _Mapping]]] = ..., expected_spend_90d_micros: _Optional[int] = ..., expected_spend_365d_micros: _Optional[int] = ..., buy_90d_prob: _Optional[float] = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ("shopper_id", "features", "summary", "latest_events", "state_age_s", "time_s", "currency_code", "tags", "outlook")
    SHOPPER_ID_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    LATEST_EVENTS_FIELD_NUMBER: _ClassVar[int]
    STATE_AGE_S_FIELD_NUMBER: _ClassVar[int]
    TIME_S_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_CODE_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    OUTLOOK_FIELD_NUMBER: _ClassVar[int]
    shopper_id: str
    features: ShopperFeatures
    summary: Summary
    latest_events: _containers.RepeatedCompositeFieldContainer[LatestEvent]
    state_age_s: int
    time_s: int
    currency_code: str
    tags: ShopperTags
    outlook: Outlook
    def __init__(self, shopper_id: _Optional[str] = ..., features: _Optional[_Union[ShopperFeatures, _Mapping]] = ..., summary: _Optional[_Union[Summary, _Mapping]] = ..., latest_events: _Optional[_Iterable[_Union[LatestEvent, _Mapping]]] = ..., state_age_s: _Optional[int] = ..., time_s: _Optional[int] = ..., currency_code: _Optional[str] = ..., tags: _Optional[_Union[ShopperTags, _Mapping]] = ..., outlook: _Optional[_Union[Outlook, _Mapping]] = ...) -> None: ...

class ShopperFeatures(_message.Message):
    __slots__ = ("view_recency_days", "cart_recency_days", "order_recency_days", "refund_recency_days", "has_viewed", "has_carted", "has_ordered", "has_refunded", "tenure_days", "n_orders", "orders_hl7d", "orders_hl28d", "orders_hl91d", "views_hl7d", "carts_hl7d", "lines_hl28d", "order_gap_mean_days", "order_gap_std_days", "order_due_ratio", "spend_total", "spend_hl7d", "spend_hl28d", "spend_hl91d", "refunds_total", "line_spend_mean", "line_spend_std", "basket_lines_mean", "basket_units_mean", "basket_categories_mean", "basket_spend_mean", "basket_spend_std", "last_basket_lines", "last_basket_spend", "n_sessions", "sessions_hl28d", "session_events_mean", "session_minutes_mean", "session_order_share", "last_session_events", "last_session_minutes", "is_in_session", "live_session_carts", "discount_depth_hl91d", "discounted_line_share_hl91d", "coupon_line_share_hl91d", "coupons_hl91d", "line_price_hl91d", "weekend_order_share_hl91d", "evening_order_share_hl91d", "order_hour_sin_hl91d", "order_hour_cos_hl91d", "exposures_hl28d", "exposure_recency_days", "has_been_exposed", "redemptions_hl91d", "redemption_recency_days", "has_redeemed", "redemptions_per_exposure", "category_lines_hl14d", "category_lines_hl91d", "category_recency_days", "category_breadth", "item_history")
    VIEW_RECENCY_DAYS_FIELD_NUMBER: _ClassVar[int]
    CART_RECENCY_DAYS_FIELD_NUMBER: _ClassVar[int]
    ORDER_RECENCY_DAYS_FIELD_NUMBER: _ClassVar[int]
    REFUND_RECENCY_DAYS_FIELD_NUMBER: _ClassVar[int]
    HAS_VIEWED_FIELD_NUMBER: _ClassVar[int]
    HAS_CARTED_FIELD_NUMBER: _ClassVar[int]
    HAS_ORDERED_FIELD_NUMBER: _ClassVar[int]
    HAS_REFUNDED_FIELD_NUMBER: _ClassVar[int]
    TENURE_DAYS_FIELD_NUMBER: _ClassVar[int]
    N_ORDERS_FIELD_NUMBER: _ClassVar[int]
    ORDERS_HL7D_FIELD_NUMBER: _ClassVar[int]
    ORDERS_HL28D_FIELD_NUMBER: _ClassVar[int]
    ORDERS_HL91D_FIELD_NUMBER: _ClassVar[int]
    VIEWS_HL7D_FIELD_NUMBER: _ClassVar[int]
    CARTS_HL7D_FIELD_NUMBER: _ClassVar[int]
    LINES_HL28D_FIELD_NUMBER: _ClassVar[int]
    ORDER_GAP_MEAN_DAYS_FIELD_NUMBER: _ClassVar[int]
    ORDER_GAP_STD_DAYS_FIELD_NUMBER: _ClassVar[int]
    ORDER_DUE_RATIO_FIELD_NUMBER: _ClassVar[int]
    SPEND_TOTAL_FIELD_NUMBER: _ClassVar[int]
    SPEND_HL7D_FIELD_NUMBER: _ClassVar[int]
    SPEND_HL28D_FIELD_NUMBER: _ClassVar[int]
    SPEND_HL91D_FIELD_NUMBER: _ClassVar[int]
    REFUNDS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    LINE_SPEND_MEAN_FIELD_NUMBER: _ClassVar[int]
    LINE_SPEND_STD_FIELD_NUMBER: _ClassVar[int]
    BASKET_LINES_MEAN_FIELD_NUMBER: _ClassVar[int]
    BASKET_UNITS_MEAN_FIELD_NUMBER: _ClassVar[int]
    BASKET_CATEGORIES_MEAN_FIELD_NUMBER: _ClassVar[int]
    BASKET_SPEND_MEAN_FIELD_NUMBER: _ClassVar[int]
    BASKET_SPEND_STD_FIELD_NUMBER: _ClassVar[int]
    LAST_BASKET_LINES_FIELD_NUMBER: _ClassVar[int]
    LAST_BASKET_SPEND_FIELD_NUMBER: _ClassVar[int]
    N_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_HL28D_FIELD_NUMBER: _ClassVar[int]
    SESSION_EVENTS_MEAN_FIELD_NUMBER: _ClassVar[int]
    SESSION_MINUTES_MEAN_FIELD_NUMBER: _ClassVar[int]
    SESSION_ORDER_SHARE_FIELD_NUMBER: _ClassVar[int]
    LAST_SESSION_EVENTS_FIELD_NUMBER: _ClassVar[int]
    LAST_SESSION_MINUTES_FIELD_NUMBER: _ClassVar[int]
    IS_IN_SESSION_FIELD_NUMBER: _ClassVar[int]
    LIVE_SESSION_CARTS_FIELD_NUMBER: _ClassVar[int]
    DISCOUNT_DEPTH_HL91D_FIELD_NUMBER: _ClassVar[int]
    DISCOUNTED_LINE_SHARE_HL91D_FIELD_NUMBER: _ClassVar[int]
    COUPON_LINE_SHARE_HL91D_FIELD_NUMBER: _ClassVar[int]
    COUPONS_HL91D_FIELD_NUMBER: _ClassVar[int]
    LINE_PRICE_HL91D_FIELD_NUMBER: _ClassVar[int]
    WEEKEND_ORDER_SHARE_HL91D_FIELD_NUMBER: _ClassVar[int]
    EVENING_ORDER_SHARE_HL91D_FIELD_NUMBER: _ClassVar[int]
    ORDER_HOUR_SIN_HL91D_FIELD_NUMBER: _ClassVar[int]
    ORDER_HOUR_COS_HL91D_FIELD_NUMBER: _ClassVar[int]
    EXPOSURES_HL28D_FIELD_NUMBER: _ClassVar[int]
    EXPOSURE_RECENCY_DAYS_FIELD_NUMBER: _ClassVar[int]
    HAS_BEEN_EXPOSED_FIELD_NUMBER: _ClassVar[int]
    REDEMPTIONS_HL91D_FIELD_NUMBER: _ClassVar[int]
    REDEMPTION_RECENCY_DAYS_FIELD_NUMBER: _ClassVar[int]
    HAS_REDEEMED_FIELD_NUMBER: _ClassVar[int]
    REDEMPTIONS_PER_EXPOSURE_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_LINES_HL14D_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_LINES_HL91D_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_RECENCY_DAYS_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_BREADTH_FIELD_NUMBER: _ClassVar[int]
    ITEM_HISTORY_FIELD_NUMBER: _ClassVar[int]
    view_recency_days: float
    cart_recency_days: float
    order_recency_days: float
    refund_recency_days: float
    has_viewed: float
    has_carted: float
    has_ordered: float
    has_refunded: float
    tenure_days: float
    n_orders: float
    orders_hl7d: float
    orders_hl28d: float
    orders_hl91d: float
    views_hl7d: float
    carts_hl7d: float
    lines_hl28d: float
    order_gap_mean_days: float
    order_gap_std_days: float
    order_due_ratio: float
    spend_total: float
    spend_hl7d: float
    spend_hl28d: float
    spend_hl91d: float
    refunds_total: float
    line_spend_mean: float
    line_spend_std: float
    basket_lines_mean: float
    basket_units_mean: float
    basket_categories_mean: float
    basket_spend_mean: float
    basket_spend_std: float
    last_basket_lines: float
    last_basket_spend: float
    n_sessions: float
    sessions_hl28d: float
    session_events_mean: float
    session_minutes_mean: float
    session_order_share: float
    last_session_events: float
    last_session_minutes: float
    is_in_session: float
    live_session_carts: float
    discount_depth_hl91d: float
    discounted_line_share_hl91d: float
    coupon_line_share_hl91d: float
    coupons_hl91d: float
    line_price_hl91d: float
    weekend_order_share_hl91d: float
    evening_order_share_hl91d: float
    order_hour_sin_hl91d: float
    order_hour_cos_hl91d: float
    exposures_hl28d: float
    exposure_recency_days: float
    has_been_exposed: float
    redemptions_hl91d: float
    redemption_recency_days: float
    has_redeemed: float
    redemptions_per_exposure: float
    category_lines_hl14d: _containers.RepeatedScalarFieldContainer[float]
    category_lines_hl91d: _containers.RepeatedScalarFieldContainer[float]
    category_recency_days: _containers.RepeatedScalarFieldContainer[float]
    category_breadth: float
    item_history: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, view_recency_days: _Optional[float] = ..., cart_recency_days: _Optional[float] = ..., order_recency_days: _Optional[float] = ..., refund_recency_days: _Optional[float] = ..., has_viewed: _Optional[float] = ..., has_carted: _Optional[float] = ..., has_ordered: _Optional[float] = ..., has_refunded: _Optional[float] = ..., tenure_days: _Optional[float] = ..., n_orders: _Optional[float] = ..., orders_hl7d: _Optional[float] = ..., orders_hl28d: _Optional[float] = ..., orders_hl91d: _Optional[float] = ..., views_hl7d: _Optional[float] = ..., carts_hl7d: _Optional[float] = ..., lines_hl28d: _Optional[float] = ..., order_gap_mean_days: _Optional[float] = ..., order_gap_std_days: _Optional[float] = ..., order_due_ratio: _Optional[float] = ..., spend_total: _Optional[float] = ..., spend_hl7d: _Optional[float] = ..., spend_hl28d: _Optional[float] = ..., spend_hl91d: _Optional[float] = ..., refunds_total: _Optional[float] = ..., line_spend_mean: _Optional[float] = ..., line_spend_std: _Optional[float] = ..., basket_lines_mean: _Optional[float] = ..., basket_units_mean: _Optional[float] = ..., basket_categories_mean: _Optional[float] = ..., basket_spend_mean: _Optional[float] = ..., basket_spend_std: _Optional[float] = ..., last_basket_lines: _Optional[float] = ..., last_basket_spend: _Optional[float] = ..., n_sessions: _Optional[float] = ..., sessions_hl28d: _Optional[float] = ..., session_events_mean: _Optional[float] = ..., session_minutes_mean: _Optional[float] = ..., session_order_share: _Optional[float] = ..., last_session_events: _Optional[float] = ..., last_session_minutes: _Optional[float] = ..., is_in_session: _Optional[float] = ..., live_session_carts: _Optional[float] = ..., discount_depth_hl91d: _Optional[float] = ..., discounted_line_share_hl91d: _Optional[float] = ..., coupon_line_share_hl91d: _Optional[float] = ..., coupons_hl91d: _Optional[float] = ..., line_price_hl91d: _Optional[float] = ..., weekend_order_share_hl91d: _Optional[float] = ..., evening_order_share_hl91d: _Optional[float] = ..., order_hour_sin_hl91d: _Optional[float] = ..., order_hour_cos_hl91d: _Optional[float] = ..., exposures_hl28d: _Optional[float] = ..., exposure_recency_days: _Optional[float] = ..., has_been_exposed: _Optional[float] = ..., redemptions_hl91d: _Optional[float] = ..., redemption_recency_days: _Optional[float] = ..., has_redeemed: _Optional[float] = ..., redemptions_per_exposure: _Optional[float] = ..., category_lines_hl14d: _Optional[_Iterable[float]] = ..., category_lines_hl91d: _Optional[_Iterable[float]] = ..., category_recency_days: _Optional[_Iterable[float]] = ..., category_breadth: _Optional[float] = ..., item_history: _Optional[_Iterable[int]] = ...) -> None: ...
