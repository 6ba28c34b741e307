"""Column names in, the canonical columns they sound like out, in English and Chinese; inspection.py calls it.

A name only proposes: each role also says what the values must look like.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from training.sources.profiles import Profile

_ID = r"_?(id|no|nr|num|number|code|key|hash|编号|编码|号|号码|标识)"
# Values of an event's kind, in the words of shops and of tracking tools.
KINDS: Mapping[str, tuple[str, ...]] = {
    "view": ("view", "pageview", "page_view", "pv", "detail", "click", "view_item", "product_view", "浏览", "点击"),
    "cart": ("cart", "addtocart", "add_to_cart", "add-to-cart", "basket", "加购", "加入购物车"),
    "order": ("order", "purchase", "buy", "transaction", "sale", "sold", "checkout", "购买", "下单", "支付", "成交"),
    "refund": ("refund", "return", "returned", "cancel", "cancelled", "canceled", "退款", "退货", "取消"),
}
LONG_TEXT, FEW_VALUES = 25, 30


@dataclass(frozen=True)
class Role:
    """One canonical column and how a source's column for it looks.

    column  canonical or short name
    name    expression for the source's name, as `plain_name` writes it
    fits    whether the values may be it
    """

    table: str
    column: str
    name: re.Pattern[str]
    fits: Callable[[Profile], bool]


def plain_name(name: str) -> str:
    """Return a column's name in small letters, its words parted by one underscore."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[\W_]+", "_", parted.lower()).strip("_")


def _is_id(profile: Profile) -> bool:
    is_instant = profile.time is not None and profile.time.unit is None
    return bool(profile.values) and profile.mean_length <= 64 and not is_instant and not profile.is_nested


def _is_time(profile: Profile) -> bool:
    return profile.time is not None


def _is_number(profile: Profile) -> bool:
    return profile.is_number


def _is_amount(profile: Profile) -> bool:
    return profile.is_number or (bool(profile.symbols) and profile.time is None)


def _is_label(profile: Profile) -> bool:
    return bool(profile.values) and not profile.is_nested and profile.time is None


def _is_kind(profile: Profile) -> bool:
    return 0 < profile.n_unique <= FEW_VALUES and any(kind_of(value) for value in profile.counts)


def _is_prose(profile: Profile) -> bool:
    return profile.mean_length >= LONG_TEXT and not profile.is_number and not profile.is_nested


def _is_code(profile: Profile) -> bool:
    return bool(profile.values) and all(re.fullmatch("[A-Za-z]{3}", value) for value in profile.counts)


def kind_of(value: str) -> str | None:
    """Return the event kind that a source's value means, None for one that means none."""
    plain = value.strip().lower()
    return next((kind for kind, words in KINDS.items() if plain in words), None)


_SHOPPER = r"(customer|client|user|shopper|visitor|buyer|member|consumer|cust|用户|客户|会员|买家|顾客)"
_ITEM = r"(item|product|stock|article|goods|clothing|variant|商品|产品|货品)"
_MOMENT = r"(date|time|timestamp|datetime|date_time|at|ts|时间|日期)"
_WORDS: Sequence[tuple[str, str, str, Callable[[Profile], bool]]] = (
    ("events", "shopper_id", f"{_SHOPPER}{_ID}?|uid", _is_id),
    ("events", "order_id", f"(order|invoice|transaction|basket|receipt|订单|发票|交易)({_ID}|单号)?", _is_id),
    ("events", "item_id", f"{_ITEM}{_ID}|sku|asin|isbn|货号|{_ITEM}", _is_id),
    (
        "events",
        "time",
        "(invoice|order|purchase|event|transaction|payment|sales?|下单|购买|付款|支付|交易|订单|行为)_?" + _MOMENT,
        _is_time,
    ),
    ("events", "time", f"(created|visit|action|local|server|创建)?_?{_MOMENT}(_utc)?|day", _is_time),
    (
        "events",
        "kind",
        r"(event|action|behaviou?r|activity|行为|事件)_?(type|name|kind|类型|名称)?|kind|type|类型",
        _is_kind,
    ),
    ("events", "quantity", "quantity|qty|units?|pieces|n_items|(购买|商品)?数量|件数", _is_number),
    (
        "events",
        "paid",
        r"((line|order|purchase|total|net|gross|sales?|paid|transaction|payment)_)*"
        r"(total|amount|paid|revenue|sales|spend|spent|turnover|value|sum)"
        "|(实付|支付|付款|交易|订单|销售)?(总)?(金额|总价|总额)|实付",
        _is_amount,
    ),
    ("events", "discount", "discount(_(amount|value))?|折扣(金额)?|优惠金额", _is_amount),
    ("events", "coupon", "coupon(_(amount|discount|value))?|优惠券(金额)?", _is_amount),
    ("events", "currency", "currency(_code)?|ccy|币种|货币", _is_code),
    ("events", "store_id", f"(store|branch|outlet|门店|店铺){_ID}?", _is_id),
    ("events", "device_id", f"(device|设备)({_ID}|_?fingerprint)?", _is_id),
    ("events", "address_id", "ip(_?(address|addr|地址))?|(shipping_|delivery_)?address(_id)?|收货地址", _is_id),
    ("events", "card_id", "card_?(id|hash|token|fingerprint)", _is_id),
    ("items", "title", f"({_ITEM}_?)?(name|title|名称|名|标题)|品名|description", _is_label),
    (
        "items",
        "category",
        "(sub_?)?category(_name)?|cat|class_name|product_type|(类别|分类|类目|品类)",
        _is_label,
    ),
    ("items", "department", "department(_name)?|部门", _is_label),
    ("items", "brand", "brand(_name)?|manufacturer|品牌", _is_label),
    ("items", "price", "((unit|item|product|list|retail|selling|sale)_?)?price|(商品)?(单价|价格|售价)", _is_amount),
    ("items", "cost", "(unit_)?cost(_price)?|成本价?", _is_amount),
    ("shoppers", "age_band", "age(_?(band|group|range))?|年龄段?", _is_label),
    ("shoppers", "gender", "gender|sex|性别", _is_label),
    ("shoppers", "occupation", "occupation|job|profession|职业", _is_label),
    ("shoppers", "income_band", "income(_?(band|group|range))?|收入", _is_label),
    ("shoppers", "household_size", "household_size|家庭人数", _is_label),
    ("shoppers", "n_children", "(n_|number_of_)?children|kids|子女数", _is_label),
    (
        "shoppers",
        "signed_up",
        f"sign(ed)?_?up(_?{_MOMENT})?|(regist(er|ered|ration)|joined|注册)_?{_MOMENT}",
        _is_time,
    ),
    ("reviews", "review_id", f"(review|评论){_ID}", _is_id),
    ("reviews", "text", r"(review|评论|评价)(_?(text|body|content|内容))?|comments?|text|content|内容", _is_prose),
    ("reviews", "rating", "rating|stars|score|overall|评分|星级|打分", _is_number),
    ("reviews", "title", "(review_)?(title|headline|summary)", _is_label),
)
ROLES = tuple(Role(table, column, re.compile(name), fits) for table, column, name, fits in _WORDS)


def roles_of(profiles: Sequence[Profile]) -> dict[tuple[str, str], list[Profile]]:
    """Return, for each (table, column), the source's columns that could be it, the likeliest first."""
    found: dict[tuple[str, str], list[Profile]] = {}
    for role in ROLES:
        for profile in profiles:
            held = found.get((role.table, role.column), [])
            if role.name.fullmatch(plain_name(profile.name)) and profile not in held and role.fits(profile):
                found.setdefault((role.table, role.column), []).append(profile)
    for candidates in found.values():
        # A name that says "id" is surer than the bare word.
        candidates.sort(key=lambda profile: not re.search(f"{_ID}$", plain_name(profile.name)))
    return found
