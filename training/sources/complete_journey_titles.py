"""Till labels of the Complete Journey data set in, words a marketer reads out; complete_journey.py calls it.

The labels are upper case, abbreviated and cut at 30 characters: "SALD DRSNG/SNDWCH SPRD".
"""

import re

# Word by word; what stands in no list is title-cased as it is.
WORDS = {
    "&": "&", "ALL": "All", "AND": "and", "BBQ": "BBQ", "BG": "Bags", "BKD": "Baked", "BN": "Beans", "BRD": "Bread",
    "BRKFST": "Breakfast", "BTL": "Bottle", "BTR": "Butter", "CAN": "Canned", "CARB": "Carbonated", "CKYS": "Cookies",
    "CLEANG": "Cleaning", "CND": "Canned", "CNDY": "Candy", "CONC": "Concentrates", "CONT": "Contributions",
    "CONVENIENT": "Convenient", "CRKR": "Crackers", "CRMD": "Creamed", "CRYSTL": "Crystal", "CTFD": "Cat Food",
    "DNR": "Dinner", "DNRS": "Dinners", "DOGFD": "Dog Food", "CATFD": "Cat Food", "DRNK": "Drink",
    "DRNKING": "Drinking", "DRNKNG": "Drinking", "DRNKS": "Drinks", "DRSNG": "Dressing", "DSH": "Dishes",
    "ELECT": "Electrical", "EXTRCT": "Extract", "FD": "Food", "FEM.": "Feminine", "FLVR": "Flavored",
    "FLVRD": "Flavored", "FRZ": "Frozen", "FRZN": "Frozen", "FS": "French Style", "GDS": "Goods", "GM": "General",
    "GRND": "Ground", "HBC": "Health & Beauty", "HYGN": "Hygiene", "INCL": "", "IQF": "Individually Frozen",
    "IWS": "Wrapped", "JCE": "Juice", "MDSE": "Merchandise", "MEMORABLILIA": "Memorabilia", "MISC": "Other",
    "MISC.": "Other", "MISCELLANEOUS": "Other", "MIXS": "Mixes", "MLK": "Milk", "MLT-PK": "Multi-Pack",
    "MNRAL": "Mineral", "MNERAL": "Mineral", "MNRL": "Mineral", "MW": "Microwave", "MX": "Mix", "MXS": "Mixes",
    "NDAIRY": "Non-Dairy", "NON-CRBNTD": "Still", "NON-CARB": "Still", "OF": "of", "OJ": "Orange Juice",
    "PCKGD": "Packaged", "PK": "Packs", "PKG": "Packaged", "PKG.SEAFOOD": "Packaged Seafood", "PKGD": "Packaged",
    "PKLD": "Pickled", "PLSTC": "Plastic", "PNCH": "Punch", "PNT": "Peanut", "POTATO": "Potato", "PREP": "Prepared",
    "PREPCK": "Prepacked", "PROD": "Produce", "PRPCK": "Prepacked", "PWDR": "Powder", "PWDRS": "Powders",
    "REFRGRATD": "Refrigerated", "REFRIG": "Refrigerated", "RTE": "Ready-to-Eat", "RTS": "Ready-to-Serve",
    "RW": "Random-Weight", "S": "'s", "SAL": "Salads", "SALD": "Salad", "SAUS": "Sausage", "SFT": "Soft",
    "SGL": "Single", "SHERBTS": "Sherbets", "SNDWCH": "Sandwich", "SNGL": "Single", "SNKS": "Snacks",
    "SPECILATY": "Specialty",
    "SPLY": "Supplies", "SPRD": "Spreads", "SRV": "Serve", "SS": "Single-Serve", "STK": "Stick", "SUBS": "Substitutes",
    "SUP": "Super", "SUPPPLIES": "Supplies", "SV": "Serve", "SW": "Sweet", "SWEETNERS": "Sweeteners",
    "DISPOSIBLE": "Disposable", "TISS": "Tissues", "TORT": "Tortilla", "TRSH": "Trash", "VEG": "Vegetables",
    "W/": "with", "W/PORK": "with Pork", "WHL": "Whole", "WHLSM": "Wholesome", "WHS": "Warehouse", "WHT": "White",
    "WTR": "Water", "WRAPS": "Wraps", "XPCTRNT": "Expectorant", "COCO": "Cocoa", "CHOCOCLATE": "Chocolate",
    "SPRY": "Spray", "HANDKE": "Handkerchiefs", "LOZNG-DRP": "Lozenges", "SYRP": "Syrup", "CHIX": "Chicken",
    "WORCHESTER": "Worcestershire", "PORTON": "Portions", "CTLRYTBLCLTHSTTHPKSST": "Tableware", "PREPACK": "Prepacked",
    "TREATMENT": "Treatments", "FILM": "Film", "HND": "Hand", "CTLRY": "Cutlery", "L": "L", "TV": "TV", "LB": "lb",
}  # fmt: skip

# Whole labels that no word list saves: cut short, or written for the till.
PHRASES = {
    "SOFT DRINKS 12/18&15PK CAN CAR": "Soft Drinks, 12 to 18 Cans",
    "SOFT DRINKS 20PK&24PK CAN CARB": "Soft Drinks, 20 or 24 Cans",
    "SOFT DRINKS 6PK/4PK CAN CARB (": "Soft Drinks, 4 or 6 Cans",
    "SFT DRNK 2 LITER BTL CARB INCL": "Soft Drink, 2-Liter Bottle",
    "SFT DRNK SNGL SRV BTL CARB (EX": "Soft Drink, Single Bottle",
    "SFT DRNK MLT-PK BTL CARB (EXCP": "Soft Drink, Multi-Pack Bottles",
    "SOFT DRINK BOTTLE NON-CARB (EX": "Still Soft Drink, Bottle",
    "SOFT DRINKS CAN NON-CARB (EXCE": "Still Soft Drinks, Cans",
    "YOGURT NOT MULTI-PACKS": "Yogurt",
    "CANDY BARS (SINGLES)(INCLUDING": "Candy Bar, Single",
    "CANDY BARS (MULTI PACK)": "Candy Bars, Multi-Pack",
    "BEERALEMALT LIQUORS": "Beer, Ale & Malt Liquor",
    "GASOLINE-REG UNLEADED": "Regular Unleaded Gasoline",
    "SS ECONOMY ENTREES/DINNERS ALL": "Economy Entrees & Dinners, Single-Serve",
    "FRZN SS PREMIUM ENTREES/DNRS/N": "Frozen Premium Entrees, Single-Serve",
    "FRZN SS PREMIUM ENTREES/DNRS/T": "Frozen Premium Dinners, Single-Serve",
    "FRZN MULTI SERVE ENTREES ALL": "Frozen Multi-Serve Entrees",
    "FRZN BREADED PREPARED CHICK": "Frozen Breaded Chicken",
    "FRZN BREAKFAST ENTREES/SANDWIC": "Frozen Breakfast Entrees & Sandwiches",
    "DAIRY CASE 100% PURE JUICE - O": "Refrigerated 100% Juice",
    "DAIRY CASE JUICE DRNK UNDER 10": "Refrigerated Juice Drinks",
    "DAIRY CASE FRUIT DRINKS (NO JU": "Refrigerated Fruit Drinks",
    "DAIRY CASE TEA WITH SUGAR OR S": "Refrigerated Sweet Tea",
    "DAIRY CASE CITRUS PNCH/OJ SUBS": "Refrigerated Citrus Punch",
    "MAINSTREAM WHEAT/MULTIGRAIN BR": "Wheat & Multigrain Bread",
    "MAINSTREAM WHITE BREAD": "White Bread",
    "RTS SOUP: CHUNKY/HOMESTYLE ET": "Ready-to-Serve Soup",
    "SEMI-SOLID SALAD DRESSING MAY": "Mayonnaise & Spoonable Dressing",
    "SGL SV/VEND MACH SNACKS CHIP/P": "Single-Serve Chips & Snacks",
    "VARIETY BEANS - KIDNEY PINTO": "Kidney, Pinto & Other Beans",
    "MEXICAN SAUCESSALSAPICANTEE": "Salsa & Mexican Sauces",
    "FACIAL TISSUE & PAPER HANDKE": "Facial Tissues",
    "GARBAGE KITCHEN COMPACTOR BA": "Garbage Bags",
    "NON-CRBNTD DRNKING/MNERAL WATE": "Still Drinking Water",
    "NON-CARB FLVRD DRNKNG/MNRL WAT": "Still Flavored Water",
    "NON-CARB WATER FLVR - DRNK/MNR": "Still Flavored Water",
    "APPLES RED DELICIOUS (BULK&BAG": "Red Delicious Apples",
    "APPLES GOLD DELICIOUS (BULK&BA": "Golden Delicious Apples",
    "PLSTC CTLRYTBLCLTHSTTHPKSST": "Plastic Cutlery & Tableware",
    "MEXICAN SOFT TORTILLAS AND WRA": "Soft Tortillas & Wraps",
    "MALTED MLK/SYRUP/PWDRS (EGGNOG": "Milk Flavorings",
    "COUGH SYRP/LOZNG-DRP/XPCTRNT": "Cough Syrup & Lozenges",
    "FLUID MILK WHITE ONLY": "White Milk",
    "SALAD BAR FRESH FRUIT": "Salad Bar Fruit",
    "PIES: FRUIT/NUT": "Fruit & Nut Pies",
    "SW GDS:DONUTS": "Donuts",
    "SW GDS: SW ROLLS/DAN": "Sweet Rolls & Danish",
    "BREAD:ITALIAN/FRENCH": "Italian & French Bread",
    "REFRIGERATED SPECILATY ROLLS": "Refrigerated Specialty Rolls",
    "MISC SALES TRANS": "Other Sales",
    "FEM. HYGN.NAPKINS": "Feminine Hygiene Napkins",
    "FEM. HYGN. TAMPONS": "Tampons",
    "MISCELLANEOUS": "Miscellaneous",
    "SEAFOOD-FRZ-IQF RAW SHRIMP RW": "Frozen Raw Shrimp",
    "BREAST - BONELESS(IQF)": "Frozen Boneless Chicken Breast",
    "SEASONAL MISCELLANEOUS": "Seasonal Goods",
    "VAC PAC NUTS(CANS)": "Canned Nuts",
    "PREPARED BEANS - BAKED W/PORK": "Baked Beans with Pork",
    "WINGS (IQF)": "Frozen Chicken Wings",
    "BREADINGS  COATINGS CRUMBS": "Breadings, Coatings & Crumbs",
    "CATSUP": "Ketchup",
}

CATEGORY_PHRASES = {
    "DRY BN/VEG/POTATO/RICE": "Dry Beans/Vegetables/Potato/Rice",
    "FRZN VEGETABLE/VEG DSH": "Frozen Vegetable Dishes",
    "FD WRAPS/BAGS/TRSH BG": "Food Wraps/Bags/Trash Bags",
    "PNT BTR/JELLY/JAMS": "Peanut Butter/Jelly/Jams",
    "BEANS - CANNED GLASS & MW": "Canned & Microwave Beans",
    "CANDY - CHECKLANE": "Checkout Candy",
    "CANDY - PACKAGED": "Packaged Candy",
    "VEGETABLES - SHELF STABLE": "Canned Vegetables",
    "VEGETABLES - ALL OTHERS": "Other Vegetables",
    "MEAT - SHELF STABLE": "Canned Meat",
    "FRUIT - SHELF STABLE": "Canned Fruit",
    "SEAFOOD - SHELF STABLE": "Canned Seafood",
    "SEAFOOD - FROZEN": "Frozen Seafood",
    "SEAFOOD - MISC": "Other Seafood",
    "SEAFOOD-FRESH": "Fresh Seafood",
    "MEAT - MISC": "Other Meat",
    "PEPPERS-ALL": "Peppers",
    "HISPANIC": "Hispanic Foods",
    "HEAT/SERVE": "Heat & Serve Meals",
    "PROCESSED": "Processed Meat",
    "REFRIGERATED": "Refrigerated Foods",
    "FROZEN": "Other Frozen Foods",
    "WATER - CARBONATED/FLVRD DRINK": "Carbonated & Flavored Water",
    "BREAKFAST SAUSAGE/SANDWICHES": "Breakfast Sausage/Sandwiches",
    "DISPOSIBLE FOILWARE": "Disposable Foilware",
    "J-HOOKS": "Hanging Displays",
    "MISCELLANEOUS": "Miscellaneous",
    "COUPON": "Coupons",
    "COUPONS/STORE & MFG": "Coupons",
    "COUPON/MISC ITEMS": "Till Entries",
    "SEAFOOD-PCKGD": "Packaged Seafood",
    "MEAT-PCKGD": "Packaged Meat",
    "DRUG GM": "Drug & General Merchandise",
    "GM MERCH EXP": "General Merchandise",
    "CNTRL/STORE SUP": "Store Supplies",
    "PROD-WHS SALES": "Produce Warehouse",
    "CHEF SHOPPE": "Chef Shoppe",
    "ELECT &PLUMBING": "Electrical & Plumbing",
}

# A type made of these alone says nothing without its category: "PREMIUM" of ice cream, "LEAN" of beef.
VAGUE = {
    "BETTER", "BLENDS", "BULK", "CHOICE", "COOKED", "DIPS", "ECONOMY", "ENHANCED", "ENROBED", "ENTREES", "FOR", "FRESH",
    "GARDEN", "LEAN", "LINKS", "MAINSTREAM", "MEAT", "MISC", "MISCELLANEOUS", "OTHER", "PATTIES", "PINTS", "PLUS",
    "PREMIUM", "PRIMAL", "RAW", "REGULAR", "RIBS", "SELECT", "SMOKED", "SPECIALTY", "STICKS", "SUPER", "TRADITIONAL",
    "VALUE", "YOU", "ALL",
}  # fmt: skip

UNITS = {
    "OZ": "oz", "LB": "lb", "CT": "ct", "GA": "gal", "GAL": "gal", "L": "L", "LTR": "L", "ML": "ml", "PT": "pt",
    "QT": "qt", "PC": "pc", "PK": "pack", "DZ": "dozen", "FT": "ft", "SQ": "sq", "IN": "in", "YD": "yd", "G": "g",
}  # fmt: skip

GASOLINE = "GASOLINE-REG UNLEADED"


def category_title(label: str) -> str:
    """Return a category or department as a shopper would say it: "FRZN VEGETABLE/VEG DSH" as "Frozen Vegetable Dishes".

    label  upper case, never empty
    """
    return CATEGORY_PHRASES.get(label) or _words(label)


def category_of(category: str, product_type: str | None) -> str:
    """Return an item's category, with fuel and gift cards taken out of the till's catch-all category.

    category, product_type  labels as the data set has them
    """
    kind = product_type or ""
    if kind == GASOLINE:
        return "Fuel"
    if "GIFT CARD" in kind:
        return "Gift Cards"
    return category_title(category)


def item_title(product_type: str, category: str, size: str | None) -> str:
    """Return what an item is called: "FROZEN PIZZA", "11 OZ" as "Frozen Pizza, 11 oz".

    product_type, category  labels as the data set has them
    size                    package size; None where the data set has none
    """
    title = PHRASES.get(product_type) or _words(product_type)
    if not set(re.findall(r"[A-Z]+", product_type)) - VAGUE:
        title = f"{category_title(category)} ({title})"
    shown = _size(size or "")
    return f"{title}, {shown}" if shown else title


def _size(label: str) -> str:
    amount = re.search(r"[\d.].*", re.sub(r"\(.*?\)", "", label))  # "CTN" and "PT" alone say no size
    return " ".join(UNITS.get(word, word.lower()) for word in amount.group().split()) if amount else ""


def _words(label: str) -> str:
    whole = re.sub(r"\([^)]*$", "", label)  # a bracket that the till cut before its end
    whole = re.sub(r"\((BULK|BULK&BAG|BULK/PKG|HOT)\)", "", whole)
    spaced = re.sub(r"(?<=[A-Z.])&|&(?=[A-Z])", " & ", re.sub(r"[:;]\s*", ": ", whole))
    parts = [_word(part) for part in re.split(r"([\s/()-])", spaced)]
    title = re.sub(r"\s+", " ", "".join(parts)).strip(" -,:/&")
    return re.sub(r"\s+'s\b", "'s", title) or label.title()


def _word(part: str) -> str:
    mark = part[-1] if part[-1:] in (":", ",") else ""
    bare = part.removesuffix(mark) if mark else part
    return WORDS.get(bare, bare.capitalize()) + mark
