from stratagem.v1 import event_pb2 as _event_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OutcomeKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_KIND_UNSPECIFIED: _ClassVar[OutcomeKind]
    OUTCOME_KIND_REDEMPTION: _ClassVar[OutcomeKind]

class RecordStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RECORD_STATUS_UNSPECIFIED: _ClassVar[RecordStatus]
    RECORD_STATUS_RECORDED: _ClassVar[RecordStatus]
    RECORD_STATUS_DUPLICATE: _ClassVar[RecordStatus]
    RECORD_STATUS_INVALID: _ClassVar[RecordStatus]
OUTCOME_KIND_UNSPECIFIED: OutcomeKind
OUTCOME_KIND_REDEMPTION: OutcomeKind
RECORD_STATUS_UNSPECIFIED: RecordStatus
RECORD_STATUS_RECORDED: RecordStatus
RECORD_STATUS_DUPLICATE: RecordStatus
RECORD_STATUS_INVALID: RecordStatus

class Exposure(_message.Message):
    __slots__ = ("event_id", "shopper_id", "time_s", "channel", "campaign_id", "offer_id", "propensity", "decision_id")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    SHOPPER_ID_FIELD_NUMBER: _ClassVar[int]
    TIME_S_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    CAMPAIGN_ID_FIELD_NUMBER: _ClassVar[int]
    OFFER_ID_FIELD_NUMBER: _ClassVar[int]
    PROPENSITY_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    shopper_id: str
    time_s: int
    channel: _event_pb2.Channel
    campaign_id: str
    offer_id: str
    propensity: float
    decision_id: str
    def __init__(self, event_id: _Optional[str] = ..., shopper_id: _Optional[str] = ..., time_s: _Optional[int] = ..., channel: _Optional[_Union[_event_pb2.Channel, str]] = ..., campaign_id: _Optional[str] = ..., offer_id: _Optional[str] = ..., propensity: _Optional[float] = ..., decision_id: _Optional[str] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("event_id", "shopper_id", "time_s", "kind", "offer_id", "campaign_id", "value_micros", "decision_id")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    SHOPPER_ID_FIELD_NUMBER: _ClassVar[int]
    TIME_S_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    OFFER_ID_FIELD_NUMBER: _ClassVar[int]
    CAMPAIGN_ID_FIELD_NUMBER: _ClassVar[int]
    VALUE_MICROS_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    shopper_id: str
    time_s: int
    kind: OutcomeKind
    offer_id: str
    campaign_id: str
    value_micros: int
    decision_id: str
    def __init__(self, event_id: _Optional[str] = ..., shopper_id: _Optional[str] = ..., time_s: _Optional[int] = ..., kind: _Optional[_Union[OutcomeKind, str]] = ..., offer_id: _Optional[str] = ..., campaign_id: _Optional[str] = ..., value_micros: _Optional[int] = ..., decision_id: _Optional[str] = ...) -> None: ...

class RecordRequest(_message.Message):
    __slots__ = ("events", "exposures", "outcomes")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    EXPOSURES_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.Event]
    exposures: _containers.RepeatedCompositeFieldContainer[Exposure]
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    def __init__(self, events: _Optional[_Iterable[_Union[_event_pb2.Event, _Mapping]]] = ..., exposures: _Optional[_Iterable[_Union[Exposure, _Mapping]]] = ..., outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ...) -> None: ...

class RecordResult(_message.Message):
    __slots__ = ("status", "problem")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    status: RecordStatus
    problem: str
    def __init__(self, status: _Optional[_Union[RecordStatus, str]] = ..., problem: _Optional[str] = ...) -> None: ...

class RecordResponse(_message.Message):
    __slots__ = ("events", "exposures", "outcomes")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    EXPOSURES_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[RecordResult]
    exposures: _containers.RepeatedCompositeFieldContainer[RecordResult]
    outcomes: _containers.RepeatedCompositeFieldContainer[RecordResult]
    def __init__(self, events: _Optional[_Iterable[_Union[RecordResult, _Mapping]]] = ..., exposures: _Optional[_Iterable[_Union[RecordResult, _Mapping]]] = ..., outcomes: _Optional[_Iterable[_Union[RecordResult, _Mapping]]] = ...) -> None: ...
