from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RiskReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RISK_REASON_UNSPECIFIED: _ClassVar[RiskReason]
    RISK_REASON_DEVICE_USE: _ClassVar[RiskReason]
    RISK_REASON_DEVICE_SHARING: _ClassVar[RiskReason]
    RISK_REASON_ADDRESS_USE: _ClassVar[RiskReason]
    RISK_REASON_ADDRESS_SHARING: _ClassVar[RiskReason]
    RISK_REASON_CARD_USE: _ClassVar[RiskReason]
    RISK_REASON_CARD_SHARING: _ClassVar[RiskReason]
    RISK_REASON_SHOPPER_USE: _ClassVar[RiskReason]
    RISK_REASON_SIGN_UP: _ClassVar[RiskReason]
    RISK_REASON_AMOUNT: _ClassVar[RiskReason]
    RISK_REASON_TIME_OF_DAY: _ClassVar[RiskReason]
RISK_REASON_UNSPECIFIED: RiskReason
RISK_REASON_DEVICE_USE: RiskReason
RISK_REASON_DEVICE_SHARING: RiskReason
RISK_REASON_ADDRESS_USE: RiskReason
RISK_REASON_ADDRESS_SHARING: RiskReason
RISK_REASON_CARD_USE: RiskReason
RISK_REASON_CARD_SHARING: RiskReason
RISK_REASON_SHOPPER_USE: RiskReason
RISK_REASON_SIGN_UP: RiskReason
RISK_REASON_AMOUNT: RiskReason
RISK_REASON_TIME_OF_DAY: RiskReason

class Use(_message.Message):
    __slots__ = ("time_s", "shopper_id", "paid_micros")
    TIME_S_FIELD_NUMBER: _ClassVar[int]
    SHOPPER_ID_FIELD_NUMBER: _ClassVar[int]
    PAID_MICROS_FIELD_NUMBER: _ClassVar[int]
    time_s: int
    shopper_id: str
    paid_micros: int
    def __init__(self, time_s: _Optional[int] = ..., shopper_id: _Optional[str] = ..., paid_micros: _Optional[int] = ...) -> None: ...

class Key(_message.Message):
    __slots__ = ("uses",)
    USES_FIELD_NUMBER: _ClassVar[int]
    uses: _containers.RepeatedCompositeFieldContainer[Use]
    def __init__(self, uses: _Optional[_Iterable[_Union[Use, _Mapping]]] = ...) -> None: ...

class AssessTransactionRequest(_message.Message):
    __slots__ = ("time_s", "paid_micros", "signed_up_s", "device", "address", "card", "shopper")
    TIME_S_FIELD_NUMBER: _ClassVar[int]
    PAID_MICROS_FIELD_NUMBER: _ClassVar[int]
    SIGNED_UP_S_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CARD_FIELD_NUMBER: _ClassVar[int]
    SHOPPER_FIELD_NUMBER: _ClassVar[int]
    time_s: int
    paid_micros: int
    signed_up_s: int
    device: Key
    address: Key
    card: Key
    shopper: Key
    def __init__(self, time_s: _Optional[int] = ..., paid_micros: _Optional[int] = ..., signed_up_s: _Optional[int] = ..., device: _Optional[_Union[Key, _Mapping]] = ..., address: _Optional[_Union[Key, _Mapping]] = ..., card: _Optional[_Union[Key, _Mapping]] = ..., shopper: _Optional[_Union[Key, _Mapping]] = ...) -> None: ...

class RiskEvidence(_message.Message):
    __slots__ = ("reason", "sentence", "log_odds")
    REASON_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    LOG_ODDS_FIELD_NUMBER: _ClassVar[int]
    reason: RiskReason
    sentence: str
    log_odds: float
    def __init__(self, reason: _Optional[_Union[RiskReason, str]] = ..., sentence: _Optional[str] = ..., log_odds: _Optional[float] = ...) -> None: ...

class AssessTransactionResponse(_message.Message):
    __slots__ = ("fraud_prob", "reasons", "release")
    FRAUD_PROB_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    fraud_prob: float
    reasons: _containers.RepeatedCompositeFieldContainer[RiskEvidence]
    release: str
    def __init__(self, fraud_prob: _Optional[float] = ..., reasons: _Optional[_Iterable[_Union[RiskEvidence, _Mapping]]] = ..., release: _Optional[str] = ...) -> None: ...

class AssessReviewRequest(_message.Message):
    __slots__ = ("title", "text")
    TITLE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    title: str
    text: str
    def __init__(self, title: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class AssessReviewResponse(_message.Message):
    __slots__ = ("deceptive_prob", "release")
    DECEPTIVE_PROB_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    deceptive_prob: float
    release: str
    def __init__(self, deceptive_prob: _Optional[float] = ..., release: _Optional[str] = ...) -> None: ...
