from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Channel(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHANNEL_UNSPECIFIED: _ClassVar[Channel]
    CHANNEL_ADS: _ClassVar[Channel]
    CHANNEL_PROMOTIONS: _ClassVar[Channel]
    CHANNEL_CONTENT: _ClassVar[Channel]
    CHANNEL_SOCIAL: _ClassVar[Channel]

class EventKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVENT_KIND_UNSPECIFIED: _ClassVar[EventKind]
    EVENT_KIND_VIEW: _ClassVar[EventKind]
    EVENT_KIND_CART: _ClassVar[EventKind]
    EVENT_KIND_ORDER: _ClassVar[EventKind]
    EVENT_KIND_REFUND: _ClassVar[EventKind]
CHANNEL_UNSPECIFIED: Channel
CHANNEL_ADS: Channel
CHANNEL_PROMOTIONS: Channel
CHANNEL_CONTENT: Channel
CHANNEL_SOCIAL: Channel
EVENT_KIND_UNSPECIFIED: EventKind
EVENT_KIND_VIEW: EventKind
EVENT_KIND_CART: EventKind
EVENT_KIND_ORDER: EventKind
EVENT_KIND_REFUND: EventKind

class Event(_message.Message):
    __slots__ = ("event_id", "shopper_id", "time_s", "kind", "item_id", "quantity", "paid_micros", "discount_micros", "coupon_micros", "order_id", "store_id")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    SHOPPER_ID_FIELD_NUMBER: _ClassVar[int]
    TIME_S_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    PAID_MICROS_FIELD_NUMBER: _ClassVar[int]
    DISCOUNT_MICROS_FIELD_NUMBER: _ClassVar[int]
    COUPON_MICROS_FIELD_NUMBER: _ClassVar[int]
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    shopper_id: str
    time_s: int
    kind: EventKind
    item_id: str
    quantity: float
    paid_micros: int
    discount_micros: int
    coupon_micros: int
    order_id: str
    store_id: str
    def __init__(self, event_id: _Optional[str] = ..., shopper_id: _Optional[str] = ..., time_s: _Optional[int] = ..., kind: _Optional[_Union[EventKind, str]] = ..., item_id: _Optional[str] = ..., quantity: _Optional[float] = ..., paid_micros: _Optional[int] = ..., discount_micros: _Optional[int] = ..., coupon_micros: _Optional[int] = ..., order_id: _Optional[str] = ..., store_id: _Optional[str] = ...) -> None: ...
