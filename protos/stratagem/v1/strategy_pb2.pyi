from stratagem.v1 import event_pb2 as _event_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ActionKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACTION_KIND_UNSPECIFIED: _ClassVar[ActionKind]
    ACTION_KIND_NOTHING: _ClassVar[ActionKind]
    ACTION_KIND_OFFER: _ClassVar[ActionKind]
    ACTION_KIND_AD: _ClassVar[ActionKind]
    ACTION_KIND_RECOMMENDATIONS: _ClassVar[ActionKind]
    ACTION_KIND_SOCIAL: _ClassVar[ActionKind]

class Rung(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RUNG_UNSPECIFIED: _ClassVar[Rung]
    RUNG_FULL: _ClassVar[Rung]
    RUNG_CACHED: _ClassVar[Rung]
    RUNG_SAFE_DEFAULT: _ClassVar[Rung]

class RowStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROW_STATUS_UNSPECIFIED: _ClassVar[RowStatus]
    ROW_STATUS_DECIDED: _ClassVar[RowStatus]
    ROW_STATUS_UNKNOWN_SHOPPER: _ClassVar[RowStatus]
ACTION_KIND_UNSPECIFIED: ActionKind
ACTION_KIND_NOTHING: ActionKind
ACTION_KIND_OFFER: ActionKind
ACTION_KIND_AD: ActionKind
ACTION_KIND_RECOMMENDATIONS: ActionKind
ACTION_KIND_SOCIAL: ActionKind
RUNG_UNSPECIFIED: Rung
RUNG_FULL: Rung
RUNG_CACHED: Rung
RUNG_SAFE_DEFAULT: Rung
ROW_STATUS_UNSPECIFIED: RowStatus
ROW_STATUS_DECIDED: RowStatus
ROW_STATUS_UNKNOWN_SHOPPER: RowStatus

class Action(_message.Message):
    __slots__ = ("kind", "channel", "offer_id", "campaign_id", "item_ids", "category", "title")
    KIND_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    OFFER_ID_FIELD_NUMBER: _ClassVar[int]
    CAMPAIGN_ID_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    kind: ActionKind
    channel: _event_pb2.Channel
    offer_id: str
    campaign_id: str
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    category: str
    title: str
    def __init__(self, kind: _Optional[_Union[ActionKind, str]] = ..., channel: _Optional[_Union[_event_pb2.Channel, str]] = ..., offer_id: _Optional[str] = ..., campaign_id: _Optional[str] = ..., item_ids: _Optional[_Iterable[str]] = ..., category: _Optional[str] = ..., title: _Optional[str] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("action", "value_micros", "cost_micros", "score_micros", "propensity")
    ACTION_FIELD_NUMBER: _ClassVar[int]
    VALUE_MICROS_FIELD_NUMBER: _ClassVar[int]
    COST_MICROS_FIELD_NUMBER: _ClassVar[int]
    SCORE_MICROS_FIELD_NUMBER: _ClassVar[int]
    PROPENSITY_FIELD_NUMBER: _ClassVar[int]
    action: Action
    value_micros: int
    cost_micros: int
    score_micros: int
    propensity: float
    def __init__(self, action: _Optional[_Union[Action, _Mapping]] = ..., value_micros: _Optional[int] = ..., cost_micros: _Optional[int] = ..., score_micros: _Optional[int] = ..., propensity: _Optional[float] = ...) -> None: ...

class Reason(_message.Message):
    __slots__ = ("code", "words")
    CODE_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    code: str
    words: str
    def __init__(self, code: _Optional[str] = ..., words: _Optional[str] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("decision_id", "shopper_id", "action", "value_micros", "cost_micros", "shadow_price", "score_micros", "propensity", "is_exploration", "runner_up", "candidates", "reasons", "rung", "state_age_s", "release", "plan_id", "decided_at_s", "currency_code", "vector_age_s", "predictions_age_s")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    SHOPPER_ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    VALUE_MICROS_FIELD_NUMBER: _ClassVar[int]
    COST_MICROS_FIELD_NUMBER: _ClassVar[int]
    SHADOW_PRICE_FIELD_NUMBER: _ClassVar[int]
    SCORE_MICROS_FIELD_NUMBER: _ClassVar[int]
    PROPENSITY_FIELD_NUMBER: _ClassVar[int]
    IS_EXPLORATION_FIELD_NUMBER: _ClassVar[int]
    RUNNER_UP_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    RUNG_FIELD_NUMBER: _ClassVar[int]
    STATE_AGE_S_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    PLAN_ID_FIELD_NUMBER: _ClassVar[int]
    DECIDED_AT_S_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_CODE_FIELD_NUMBER: _ClassVar[int]
    VECTOR_AGE_S_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_AGE_S_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    shopper_id: str
    action: Action
    value_micros: int
    cost_micros: int
    shadow_price: float
    score_micros: int
    propensity: float
    is_exploration: bool
    runner_up: Candidate
    candidates: _containers.RepeatedCompositeFieldContainer[Candidate]
    reasons: _containers.RepeatedCompositeFieldContainer[Reason]
    rung: Rung
    state_age_s: int
    release: str
    plan_id: str
    decided_at_s: int
    currency_code: str
    vector_age_s: float
    predictions_age_s: float
    def __init__(self, decision_id: _Optional[str] = ..., shopper_id: _Optional[str] = ..., action: _Optional[_Union[Action, _Mapping]] = ..., value_micros: _Optional[int] = ..., cost_micros: _Optional[int] = ..., shadow_price: _Optional[float] = ..., score_micros: _Optional[int] = ..., propensity: _Optional[float] = ..., is_exploration: bool = ..., runner_up: _Optional[_Union[Candidate, _Mapping]] = ..., candidates: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ..., reasons: _Optional[_Iterable[_Union[Reason, _Mapping]]] = ..., rung: _Optional[_Union[Rung, str]] = ..., state_age_s: _Optional[int] = ..., release: _Optional[str] = ..., plan_id: _Optional[str] = ..., decided_at_s: _Optional[int] = ..., currency_code: _Optional[str] = ..., vector_age_s: _Optional[float] = ..., predictions_age_s: _Optional[float] = ...) -> None: ...

class DecideRequest(_message.Message):
    __slots__ = ("shopper_id", "decision_id", "time_s", "max_candidates", "without_reasons")
    SHOPPER_ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    TIME_S_FIELD_NUMBER: _ClassVar[int]
    MAX_CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_REASONS_FIELD_NUMBER: _ClassVar[int]
    shopper_id: str
    decision_id: str
    time_s: int
    max_candidates: int
    without_reasons: bool
    def __init__(self, shopper_id: _Optional[str] = ..., decision_id: _Optional[str] = ..., time_s: _Optional[int] = ..., max_candidates: _Optional[int] = ..., without_reasons: bool = ...) -> None: ...

class DecideResponse(_message.Message):
    __slots__ = ("decision",)
    DECISION_FIELD_NUMBER: _ClassVar[int]
    decision: Decision
    def __init__(self, decision: _Optional[_Union[Decision, _Mapping]] = ...) -> None: ...

class DecideStreamRequest(_message.Message):
    __slots__ = ("call_id", "request", "within_ms")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    WITHIN_MS_FIELD_NUMBER: _ClassVar[int]
    call_id: int
    request: DecideRequest
    within_ms: int
    def __init__(self, call_id: _Optional[int] = ..., request: _Optional[_Union[DecideRequest, _Mapping]] = ..., within_ms: _Optional[int] = ...) -> None: ...

class StreamProblem(_message.Message):
    __slots__ = ("code", "words", "retry_after_ms")
    CODE_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    code: int
    words: str
    retry_after_ms: int
    def __init__(self, code: _Optional[int] = ..., words: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class DecideStreamResponse(_message.Message):
    __slots__ = ("call_id", "decision", "problem")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    call_id: int
    decision: Decision
    problem: StreamProblem
    def __init__(self, call_id: _Optional[int] = ..., decision: _Optional[_Union[Decision, _Mapping]] = ..., problem: _Optional[_Union[StreamProblem, _Mapping]] = ...) -> None: ...

class DecideBatchRequest(_message.Message):
    __slots__ = ("shopper_ids", "batch_id", "time_s", "shopper_keys", "shopper_key_ends", "times_s")
    SHOPPER_IDS_FIELD_NUMBER: _ClassVar[int]
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    TIME_S_FIELD_NUMBER: _ClassVar[int]
    SHOPPER_KEYS_FIELD_NUMBER: _ClassVar[int]
    SHOPPER_KEY_ENDS_FIELD_NUMBER: _ClassVar[int]
    TIMES_S_FIELD_NUMBER: _ClassVar[int]
    shopper_ids: _containers.RepeatedScalarFieldContainer[str]
    batch_id: str
    time_s: int
    shopper_keys: bytes
    shopper_key_ends: _containers.RepeatedScalarFieldContainer[int]
    times_s: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, shopper_ids: _Optional[_Iterable[str]] = ..., batch_id: _Optional[str] = ..., time_s: _Optional[int] = ..., shopper_keys: _Optional[bytes] = ..., shopper_key_ends: _Optional[_Iterable[int]] = ..., times_s: _Optional[_Iterable[int]] = ...) -> None: ...

class DecideBatchResponse(_message.Message):
    __slots__ = ("batch_id", "statuses", "actions", "action_index", "value_micros", "cost_micros", "score_micros", "propensity", "runner_up_index", "runner_up_score_micros", "rungs", "state_age_s", "item_ids", "item_offsets", "item_index", "shadow_price", "release", "plan_id", "decided_at_s", "currency_code", "vector_age_s", "predictions_age_s")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    ACTION_INDEX_FIELD_NUMBER: _ClassVar[int]
    VALUE_MICROS_FIELD_NUMBER: _ClassVar[int]
    COST_MICROS_FIELD_NUMBER: _ClassVar[int]
    SCORE_MICROS_FIELD_NUMBER: _ClassVar[int]
    PROPENSITY_FIELD_NUMBER: _ClassVar[int]
    RUNNER_UP_INDEX_FIELD_NUMBER: _ClassVar[int]
    RUNNER_UP_SCORE_MICROS_FIELD_NUMBER: _ClassVar[int]
    RUNGS_FIELD_NUMBER: _ClassVar[int]
    STATE_AGE_S_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    ITEM_OFFSETS_FIELD_NUMBER: _ClassVar[int]
    ITEM_INDEX_FIELD_NUMBER: _ClassVar[int]
    SHADOW_PRICE_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    PLAN_ID_FIELD_NUMBER: _ClassVar[int]
    DECIDED_AT_S_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_CODE_FIELD_NUMBER: _ClassVar[int]
    VECTOR_AGE_S_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_AGE_S_FIELD_NUMBER: _ClassVar[int]
    batch_id: str
    statuses: _containers.RepeatedScalarFieldContainer[RowStatus]
    actions: _containers.RepeatedCompositeFieldContainer[Action]
    action_index: _containers.RepeatedScalarFieldContainer[int]
    value_micros: _containers.RepeatedScalarFieldContainer[int]
    cost_micros: _containers.RepeatedScalarFieldContainer[int]
    score_micros: _containers.RepeatedScalarFieldContainer[int]
    propensity: _containers.RepeatedScalarFieldContainer[float]
    runner_up_index: _containers.RepeatedScalarFieldContainer[int]
    runner_up_score_micros: _containers.RepeatedScalarFieldContainer[int]
    rungs: _containers.RepeatedScalarFieldContainer[Rung]
    state_age_s: _containers.RepeatedScalarFieldContainer[int]
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    item_offsets: _containers.RepeatedScalarFieldContainer[int]
    item_index: _containers.RepeatedScalarFieldContainer[int]
    shadow_price: float
    release: str
    plan_id: str
    decided_at_s: int
    currency_code: str
    vector_age_s: _containers.RepeatedScalarFieldContainer[float]
    predictions_age_s: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, batch_id: _Optional[str] = ..., statuses: _Optional[_Iterable[_Union[RowStatus, str]]] = ..., actions: _Optional[_Iterable[_Union[Action, _Mapping]]] = ..., action_index: _Optional[_Iterable[int]] = ..., value_micros: _Optional[_Iterable[int]] = ..., cost_micros: _Optional[_Iterable[int]] = ..., score_micros: _Optional[_Iterable[int]] = ..., propensity: _Optional[_Iterable[float]] = ..., runner_up_index: _Optional[_Iterable[int]] = ..., runner_up_score_micros: _Optional[_Iterable[int]] = ..., rungs: _Optional[_Iterable[_Union[Rung, str]]] = ..., state_age_s: _Optional[_Iterable[int]] = ..., item_ids: _Optional[_Iterable[str]] = ..., item_offsets: _Optional[_Iterable[int]] = ..., item_index: _Optional[_Iterable[int]] = ..., shadow_price: _Optional[float] = ..., release: _Optional[str] = ..., plan_id: _Optional[str] = ..., decided_at_s: _Optional[int] = ..., currency_code: _Optional[str] = ..., vector_age_s: _Optional[_Iterable[float]] = ..., predictions_age_s: _Optional[_Iterable[float]] = ...) -> None: ...
