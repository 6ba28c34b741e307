from stratagem.v1 import event_pb2 as _event_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

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

class GetResponse(_message.Message):
    __slots__ = ("shopper_id", "features", "summary", "latest_events", "state_age_s", "time_s", "currency_code")
    SHOPPER_ID_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    LATEST_EVENTS_FIELD_NUMBER: _ClassVar[int]
    STATE_AGE_S_FIELD_NUMBER: _ClassVar[int]
    TIME_S_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_CODE_FIELD_NUMBER: _ClassVar[int]
    shopper_id: str
    features: ShopperFeatures
    summary: Summary
    latest_events: _containers.RepeatedCompositeFieldContainer[LatestEvent]
    state_age_s: int
    time_s: int
    currency_code: str
    def __init__(self, shopper_id: _Optional[str] = ..., features: _Optional[_Union[ShopperFeatures, _Mapping]] = ..., summary: _Optional[_Union[Summary, _Mapping]] = ..., latest_events: _Optional[_Iterable[_Union[LatestEvent, _Mapping]]] = ..., state_age_s: _Optional[int] = ..., time_s: _Optional[int] = ..., currency_code: _Optional[str] = ...) -> None: ...

class ShopperFeatures(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
