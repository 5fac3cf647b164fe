r"""Ready rules: card numbers, e-mail addresses, telephone numbers, IBANs, keys, passwords in URLs.

Each is a ``Pattern`` whose expression is made of a table here. The tables name their sources; what
a rule cannot tell from ordinary text it does not take, and its docstring says so.

The expressions are written so that ordinary text is not held: a rule begins at something that is
rare (a prefix, a digit), or ends soon (a word may be the beginning of an address, up to its end).
Edges are those of ASCII words: in scripts without blanks a key follows a letter directly. A ``_`` is
an edge as well, as in Markdown's emphasis, and goes into the mask.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, TypedDict

from streamll.guards.checksums import LUHN, MOD_97
from streamll.guards.regex import Checksum
from streamll.guards.rules import Action, Pattern

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["card_numbers", "credential_urls", "emails", "ibans", "phone_numbers", "provider_keys"]


class _Options(TypedDict, total=False):
    """What every ready rule hands on to its ``Pattern``."""

    name: str
    fields: Collection[str] | None
    action: Action
    mask: str
    result: bool


_WORD_EDGE = r"(?a:\b)"
_EDGE = rf"(?:{_WORD_EDGE}|_)"
_BLANK = " \u00a0\u2007\u2009\u202f"
_HYPHEN = r"\-\u2010\u2011\u2012\u2013"
_GAP = f"[{_BLANK}{_HYPHEN}]"  # between the groups of a number
_DIGIT = "[0-9]"


# Card numbers

_CARDS = (
    # network, its first four digits ("." is any), how its numbers are printed
    ("Visa", "4...", "4-4-4-4 4-3-3-3 4-4-4-1 4-4-4-4-2 4-4-4-4-3"),
    ("Mastercard", "5[1-5].. 222[1-9] 22[3-9]. 2[3-6].. 27[01]. 2720", "4-4-4-4"),
    ("American Express", "3[47]..", "4-6-5 4-4-4-3"),
    ("Diners Club", "3[0689]..", "4-6-4 4-4-4-2 4-4-4-4 4-4-4-4-3"),
    ("JCB", "352[89] 35[3-8].", "4-4-4-4 4-4-4-4-1 4-4-4-4-2 4-4-4-4-3"),
    ("JCB of 15 digits", "1800 2131", "4-4-4-3 4-6-5"),
    (
        "Discover, UnionPay, RuPay, Elo, Hipercard, InterPayment, Troy",
        "60.. 6[23].. 64[4-9]. 6[57].. 8[12]..",
        "4-4-4-4 4-4-4-4-1 4-4-4-4-2 4-4-4-4-3 6-13",
    ),
    (
        "Maestro, Dankort, Verve",
        "50.. 5[678].. 6304 6390 67..",
        "4-4-4 4-4-5 4-4-4-1 4-4-4-2 4-4-4-3 4-4-4-4 4-4-4-4-1 4-4-4-4-2 4-4-4-4-3",
    ),
    ("Mir", "220[0-4]", "4-4-4-4 4-4-4-4-1 4-4-4-4-2 4-4-4-4-3"),
    (
        "Borica, GPN, Humo, Napas, Troy, UzCard",
        "2205 1946 9860 9704 9792 8600",
        "4-4-4-4 4-4-4-4-3",
    ),
    ("UATP", "1...", "4-5-6 4-4-4-3"),
)
"""After ISO/IEC 7812, the issuers' ranges as Wikipedia's "Payment card number" and Braintree's
credit-card-type list them."""

_DIGITS_OF_A_PREFIX = 4


def card_numbers(**options: Unpack[_Options]) -> Pattern:
    """Numbers of payment cards: 12 to 19 digits, of a known issuer, with a valid check digit.

    Digits may stand together or in the groups that are printed on cards, with blanks or hyphens
    between them. ``options`` are those of every guard: ``name`` (``"card_numbers"``), ``fields``,
    ``action``, ``mask`` and ``result``.

    One in ten numbers that begin like a card's and are as long pass the check by chance, decimal
    places among them. Not recognized are digits that are not ASCII, numbers with a letter directly
    before or behind them (``VISA4242…``, ``…4242USD``), and cards whose issuers use no check digit.

    Raises: ConfigurationError for an option that cannot be.
    """
    return _rule("card_numbers", _cards(), options, LUHN)


@lru_cache(maxsize=1)
def _cards() -> str:
    return f"{_EDGE}(?:{'|'.join(_card(*row[1:]) for row in _CARDS)}){_EDGE}"


def _card(prefixes: str, printed: str) -> str:
    heads = "|".join(prefixes.replace(".", _DIGIT).split())
    return f"(?:{heads})" + _any_of({_card_tail(way) for way in printed.split()})


def _card_tail(printed: str) -> str:
    """The digits after the prefix: ``G`` where a gap may precede one, ``D`` where none may."""
    first, *others = map(int, printed.split("-"))
    return "D" * (first - _DIGITS_OF_A_PREFIX) + "".join("G" + "D" * (n - 1) for n in others)


def _any_of(tails: set[str]) -> str:
    """One expression, in which tails that begin alike have their beginnings in common."""
    if not any(tails):
        return ""
    ways = (
        how + _any_of({tail[1:] for tail in tails if tail[:1] == sign})
        for sign, how in (("D", _DIGIT), ("G", f"{_GAP}?{_DIGIT}"))
        if any(tail[:1] == sign for tail in tails)
    )
    return f"(?:{'|'.join(ways)}){'?' * ('' in tails)}"


# E-mail addresses

_FAR_LETTERS = (
    r"\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0300-\u036f\u0386\u0388-\u03ff\u0400-\u0481\u048a-\u052f"
    r"\u0531-\u0556\u0561-\u0587\u05d0-\u05ea\u0620-\u064a\u066e-\u06d3\u0900-\u0963\u0971-\u0df3"
    r"\u10a0-\u10ff\u1e00-\u1fff"
)
"""Letters (and accents) beyond ASCII of scripts with blanks between words, in which a word ends soon."""

_LETTERS = f"A-Za-z{_FAR_LETTERS}"
_TOGETHER = r"\u3005\u3041-\u3096\u30a1-\u30fa\u30fc\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3"
_TOGETHER_TOPS = "中国國香港台湾灣澳門公司网络網絡址在线文我爱你みんなコム한국닷컴넷"
"""The letters of top-level domains of scripts without blanks, after IANA's root zone database:
without blanks, only its last label tells where a name ends and ordinary text goes on."""


def emails(**options: Unpack[_Options]) -> Pattern:
    """E-mail addresses: what ``<input type=email>`` takes, with a dot in the domain.

    Also international ones (RFC 6531): letters of scripts that separate words by blanks, anywhere;
    Chinese, Japanese and Korean ones in the domain, if it ends in a top-level domain of theirs.
    ``options`` are those of every guard: ``name`` (``"emails"``), ``fields``, ``action``, ``mask``
    and ``result``.

    An address begins at its first letter, digit or underscore: signs before it stay. Any word may be
    the beginning of one, so that each is held to its end, but no more than 64 characters. Not
    recognized are local parts that are quoted or longer than that (RFC 5321), hosts without a dot
    (``root@localhost``) or in brackets, domains that end in a digit (``react@18.2.0``), and what is
    written around (``name at example dot org``).

    Raises: ConfigurationError for an option that cannot be.
    """
    return _rule("emails", _emails(), options)


@lru_cache(maxsize=1)
def _emails() -> str:
    inside = f"{_LETTERS}0-9"
    start = f"(?:{_WORD_EDGE}[A-Za-z0-9_]|[{_FAR_LETTERS}])"
    local = rf"{start}[{inside}!#$%&'*+/=?^_`{{|}}~.\-]{{0,63}}"
    label, wide = _label(inside), _label(f"{inside}{_TOGETHER}")
    top = rf"(?:[{_LETTERS}]{{2}}[{_LETTERS}]*|xn--[A-Za-z0-9\-]{{1,59}})"
    return rf"{local}@(?:(?:{label}\.)+{top}|(?:{wide}\.)+[{_TOGETHER_TOPS}]{{2,3}})"


def _label(chars: str) -> str:
    return rf"[{chars}](?:[{chars}\-]{{0,61}}[{chars}])?"


# Telephone numbers

_COUNTRY_CODES = {
    # how many digits a national number has, by its country's code
    r"[17]": (10, 10),
    r"(?:2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58])": (7, 13),
    r"(?:21[1-368]|2[2346][0-9]|25[0-8]|29[017-9]|35[0-9]|37[0-9]|38[0-35-79]|42[0134]|50[0-9]"
    r"|59[0-9]|67[02-9]|68[0-35-9]|69[0-2]|80[08]|85[02356]|87[0-48]|88[0-368]|96[0-8]|97[0-79]"
    r"|99[2-68]|979)": (5, 12),
}
"""List of ITU-T Recommendation E.164 assigned country codes; a number has 15 digits at most."""

_LEADING_ZERO = r"(?:39|225|229|241|242|378)"
"""Countries whose national numbers begin with a 0 that is dialled from abroad as well."""

_BETWEEN = rf"(?:[{_BLANK}{_HYPHEN}./]|[{_BLANK}]?\(|\)[{_BLANK}]?|[{_BLANK}]/[{_BLANK}])?"
"""Between two digits of an international number: the signs of ITU-T E.123, and those seen."""


def _other_than(digits: str) -> Iterator[str]:
    """Digits, as many as these and with the same first, but not these."""
    for at in range(1, len(digits)):
        others = "".join(digit for digit in "0123456789"[at == 1 :] if digit != digits[at])
        yield f"{digits[:at]}[{others}]D{{{len(digits) - at - 1}}}"


_NATIONAL = (
    # where, and how it is written: D a digit, B a blank, G a blank or hyphen, P one or a dot, H no
    # blank, S what follows an area, E the edge of a word
    ("North America: 212-555-0100", r"E(?:1H)?[2-9]DDP[2-9]DDPDDDDE"),
    ("North America: (212) 555-0100", r"(?:E1H)?\([2-9]DD\)B?[2-9]DDPDDDDE"),
    ("France: 01 99 00 12 34", r"E0[1-9](?:PDD){4}E"),
    ("Anywhere, together: 01632960983", f"E(?:{'|'.join(_other_than('0123456789'))})D?E"),
    ("Two digits of an area: 02 5550 1234, 06-12345678", r"E0[1-9]S(?:DDDDGDDDD|D{7,8}|DDDGD{4})E"),
    ("Sweden: 08-465 004 00", r"E0[1-9]SDDD?GDDDGDDE"),
    ("Three to five: 020 7946 0958, 0171-3920012", r"E0[1-9]D{1,3}S(?:D{6,8}|D{3,5}GD{3,5})E"),
    ("Japan: 0463-12-3456", r"E0[1-9]D{1,3}SDDGDDDDE"),
    ("Switzerland: 044 668 18 00", r"E0[1-9]D{1,3}SD{2,3}GDDGD{2,3}E"),
    ("Germany: 030/23 12 50 00", r"E0[1-9]D{1,3}SDDGDDGDDGDDE"),
    (
        "In brackets: (020) 7946 0958",
        r"\(0[1-9]D{0,3}\)B?(?:D{6,8}|D{3,5}GD{3,5}|D{2,3}(?:GDD){2,3})E",
    ),
    ("Brazil: (11) 91234-5678", r"\([1-9]D\)B?(?:9DDDD|[3-5]DDD)GDDDDE"),
    ("China: 138 0013 8000", r"E1[3-9]DGDDDDGDDDDE"),
    ("India: 98765 43210", r"E[6-9]DDDDGDDDDDE"),
    ("Russia: 8 (495) 123-45-67", r"E8G?(?:\(DDD\)B?|DDDG)DDDGDDGDDE"),
)
"""The groupings that the countries' numbering plans and their users show."""

_SIGNS = {
    "D": _DIGIT,
    "E": _EDGE,
    "B": f"[{_BLANK}]",
    "G": _GAP,
    "P": f"[{_BLANK}{_HYPHEN}.]",
    "H": f"[{_HYPHEN}.]",
    "S": f"(?:[{_BLANK}{_HYPHEN}/]|[{_BLANK}]/[{_BLANK}])",
}


def phone_numbers(**options: Unpack[_Options]) -> Pattern:
    """Telephone numbers: international ones, and national ones as they are commonly grouped.

    International: ``+``, ``00`` or ``011``, an assigned country code and its number, at most 15
    digits (E.164), grouped by blanks, hyphens, dots, slashes or brackets. National: North American
    with their separators; with a leading 0 in the groupings of many countries, or ten to eleven
    digits without any; some others that cannot be mistaken (Brazil, China, India, Russia).
    ``options`` are those of every guard: ``name`` (``"phone_numbers"``), ``fields``, ``action``,
    ``mask`` and ``result``.

    Not recognized are national numbers that look like other numbers: of seven digits, without a
    separator or a leading 0 (``2125550100``), or grouped like an amount (``612 345 678``). What is
    written like a telephone number is taken for one: a row of five pairs of digits that begins with
    a 0; ten or eleven digits that do (an ISBN without hyphens, decimal places), but not 0123456789;
    an identifier with two leading zeros. A number that follows an international one after a blank
    belongs to it, up to 15 digits.

    Raises: ConfigurationError for an option that cannot be.
    """
    return _rule("phone_numbers", _phones(), options)


@lru_cache(maxsize=1)
def _phones() -> str:
    return "|".join([*_international(), *(_spelled(how) for _, how in _NATIONAL)])


def _international() -> Iterator[str]:
    start = rf"(?:[+\uff0b]|{_EDGE}(?:00|011[{_BLANK}{_HYPHEN}])[{_BLANK}{_HYPHEN}]?)"
    trunk = rf"(?:[{_BLANK}]?\(0\)|{_BETWEEN}0)?{_BETWEEN}"
    for code, (least, most) in _COUNTRY_CODES.items():
        more = f"(?:{_BETWEEN}{_DIGIT}){{{least - 1},{most - 1}}}{_EDGE}"
        yield f"{start}{code}{trunk}[1-9]{more}"
    yield f"{start}{_LEADING_ZERO}{_BETWEEN}0(?:{_BETWEEN}{_DIGIT}){{5,11}}{_EDGE}"


def _spelled(how: str) -> str:
    return re.sub("[BDEGHPS]", lambda sign: _SIGNS[sign[0]], how)


# IBANs

_IBANS = """
11n NO|12n BE|14n AX DK FI FO GL SD|2a12n FK|4a10n NL|15n SI|3n10c2n MK|16n AT BA EE LT MN XK
3n13c KZ LU|17n HR|4a13c LV|5n12c CH LI|18n CR DE ME RS VA|2a16n GE|4a14c BH|4a14n GB GG IE IM JE
4a6n8c BG|19n AE IL SO TL|3n16c OM|4a15c GI|4a15n IQ|20c MD|20n CZ ES SE SK TN|2n18c SA
4a16c PK RO|4a16n VG|8n12c AD|21n LY PT ST|22n IS|6n16c TR
10n11c2n BL FR GF GP MC MF MQ NC PF PM RE TF WF YT|1a10n12c IT SM|23n BI DJ MR|7n16c GR|24c GT
24n HU PL|4a20c AZ|4a20n HN NI SV|4c20n DO|4c4n16c BY|4n20c LB|8n16c AL CY|8c15n1a1c BR|25n EG
4a21c PS QA|6n19c UA|4a19n3a MU|4a22c KW|4a4n18c JO YE|4a20n3a SC|4a5n18c MT|4a24c LC|14n15c RU
"""
"""What follows the check digits, by country: digits (n), letters (a) or either (c), of the IBAN
Registry (SWIFT, registration authority of ISO 13616), release 103, with the territories it names."""

_KINDS = {"n": "[0-9]", "a": "[A-Za-z]", "c": "[0-9A-Za-z]"}
_CHECK_DIGITS = "(?:0[2-9]|[1-8][0-9]|9[0-8])"  # ISO/IEC 7064: the others are never computed
_GROUP = 4  # characters, in print


def ibans(**options: Unpack[_Options]) -> Pattern:
    """International bank account numbers of every country in the registry, with valid check digits.

    Together or in groups of four with blanks or hyphens between them, in capitals or small letters
    (the country's two in the same case). ``options`` are those of every guard: ``name``
    (``"ibans"``), ``fields``, ``action``, ``mask`` and ``result``.

    Not recognized are other groupings, letters or digits directly before or behind one, national
    account numbers, and countries that use the format without being registered.

    Raises: ConfigurationError for an option that cannot be.
    """
    return _rule("ibans", _accounts(), options, MOD_97)


@lru_cache(maxsize=1)
def _accounts() -> str:
    rows = (row.split() for row in re.split(r"[|\n]", _IBANS.strip()))
    return f"{_EDGE}(?:{'|'.join(_account(what, where) for what, *where in rows)}){_EDGE}"


def _account(structure: str, countries: list[str]) -> str:
    codes = "|".join([*countries, *map(str.lower, countries)])
    chars = "".join(
        _KINDS[kind] * int(count) for count, kind in re.findall("([0-9]+)([nac])", structure)
    )
    each = re.findall(r"\[.*?\]", chars)
    groups = ["".join(each[at : at + _GROUP]) for at in range(0, len(each), _GROUP)]
    gap = f"[{_BLANK}{_HYPHEN}]?"
    return f"(?:{codes}){_CHECK_DIGITS}{gap}{gap.join(groups)}"


# Keys

_WORD = r"[A-Za-z0-9_\-]"
_BASE64 = "[A-Za-z0-9+/]"
_KEYS = (
    # whose, and how they are written
    ("OpenAI", rf"sk-(?:proj|svcacct|admin|None)-{_WORD}{{20}}{_WORD}*"),
    ("OpenAI until 2024, DeepSeek, Moonshot, Qwen", r"sk-[A-Za-z0-9]{32}[A-Za-z0-9]*"),
    ("Anthropic", rf"sk-ant-{_WORD}{{24}}{_WORD}*"),
    ("OpenRouter", rf"sk-or-{_WORD}{{32}}{_WORD}*"),
    ("Langfuse", r"sk-lf-[0-9a-f\-]{36}"),
    ("Google", rf"AIza{_WORD}{{35}}{_WORD}*"),
    ("Google since 2026", rf"AQ\.{_WORD}{{30}}{_WORD}*"),
    ("Google OAuth", rf"(?:ya29\.|GOCSPX-){_WORD}{{20}}{_WORD}*"),
    ("Groq", r"gsk_[A-Za-z0-9]{48}[A-Za-z0-9]*"),
    ("xAI", r"xai-[A-Za-z0-9_]{70}[A-Za-z0-9_]*"),
    ("Perplexity", r"pplx-[A-Za-z0-9]{40}[A-Za-z0-9]*"),
    ("Replicate", rf"r8_{_WORD}{{37}}{_WORD}*"),
    ("NVIDIA", rf"nvapi-{_WORD}{{60}}{_WORD}*"),
    ("Cerebras", r"csk-[a-z0-9]{48}"),
    ("Fireworks", r"fw_[A-Za-z0-9]{22}[A-Za-z0-9]*"),
    ("Together", rf"tgp_v1_{_WORD}{{43}}{_WORD}*"),
    ("ElevenLabs", r"sk_[0-9a-f]{48}"),
    ("Tavily", r"tvly-(?:dev-|prod-)?[A-Za-z0-9]{24}[A-Za-z0-9]*"),
    ("Pinecone", r"pcsk_[A-Za-z0-9_]{40}[A-Za-z0-9_]*"),
    ("LangSmith", r"lsv2_(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10}"),
    ("Hugging Face", r"(?:hf|api_org)_[A-Za-z0-9]{34}[A-Za-z0-9]*"),
    ("AWS", rf"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{{16}}{_EDGE}"),
    ("Amazon Bedrock", rf"(?:ABSK|bedrock-api-key-){_BASE64}{{60}}{_BASE64}*={{0,2}}"),
    ("GitHub", r"gh[oprsu]_[A-Za-z0-9]{36}[A-Za-z0-9_]*|github_pat_[A-Za-z0-9_]{36}[A-Za-z0-9_]*"),
    (
        "GitLab",
        (
            rf"gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat|oas|ffct|wt)-{_WORD}{{20}}{_WORD}*"
            r"(?:\.[0-9a-z]{2,9}){0,2}"
        ),
    ),
    (
        "Slack",
        rf"(?:xoxe\.)?xox[abeoprs]-[0-9]{_WORD}{{9}}{_WORD}*|xapp-[0-9]-{_WORD}{{20}}{_WORD}*",
    ),
    (
        "Slack webhooks",
        r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/]{40}[A-Za-z0-9/]*",
    ),
    (
        "Stripe",
        rf"[rs]k_(?:live|test|prod)_[A-Za-z0-9]{{10}}[A-Za-z0-9]*|whsec_{_BASE64}{{32}}{_BASE64}*=?",
    ),
    ("npm", r"npm_[A-Za-z0-9]{36}[A-Za-z0-9]*"),
    ("PyPI", rf"pypi-AgE{_WORD}{{50}}{_WORD}*"),
    ("RubyGems", r"rubygems_[0-9a-f]{48}"),
    ("Docker", rf"dckr_[op]at_{_WORD}{{27}}{_WORD}*"),
    ("SendGrid", rf"SG\.{_WORD}{{20,24}}\.{_WORD}{{39}}{_WORD}*"),
    ("Twilio", rf"SK[0-9a-f]{{32}}{_EDGE}"),
    ("Telegram", rf"[0-9]{{8,10}}:AA{_WORD}{{33}}"),
    ("DigitalOcean", r"do[opr]_v1_[0-9a-f]{64}"),
    ("Databricks", r"dapi[0-9a-f]{32}(?:-[0-9])?"),
    ("Shopify", r"shp(?:at|ca|pa|ss)_[0-9A-Fa-f]{32}"),
    ("Square", rf"sq0(?:atp|csp)-{_WORD}{{22}}{_WORD}*"),
    ("Linear", r"lin_(?:api|oauth)_[A-Za-z0-9]{40}[A-Za-z0-9]*"),
    ("Notion", r"ntn_[0-9]{11}[A-Za-z0-9]{35}"),
    ("Grafana", rf"glsa_[A-Za-z0-9]{{32}}_[0-9A-Fa-f]{{8}}|glc_{_BASE64}{{32}}{_BASE64}*={{0,2}}"),
    ("HashiCorp Vault", rf"hv[bs]\.{_WORD}{{90}}{_WORD}*"),
    ("age", r"AGE-SECRET-KEY-1[0-9A-Z]{58}"),
    ("JSON Web Token", rf"eyJ{_WORD}{{10}}{_WORD}*\.eyJ{_WORD}{{8}}{_WORD}*\.{_WORD}*"),
)
"""Their providers' documentation, and the public rules of secret scanners (gitleaks, Kingfisher,
Microsoft security-utilities). What has no length that is promised may be longer."""

_NAMED_KEYS = (
    # whose, after which names, and how many letters and digits there are at least
    ("AWS", "aws_?secret_?access_?key aws_?session_?token secret_?access_?key", 40),
    (
        "Azure",
        "account_?key shared_?access_?key azure_(?:openai_)?(?:api_)?key (?:ocp-apim-subscription|api)-key",
        32,
    ),
)
"""What is not marked by itself."""

_IS = r"""["']?[ \t]*(?:=>|[:=])[ \t]*["']?"""  # between a name and its value

_LINES = r"(?:\s|\\[nr])*"  # between lines of a block; in JSON they are escapes
_BLOCK = "[A-Za-z0-9+/=]{16}[A-Za-z0-9+/=]*"
_PRIVATE_KEY = (
    r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    rf"(?:{_LINES}[A-Za-z\-]{{2,20}}: [^\n\\]*)*{_LINES}{_BLOCK}(?:{_LINES}{_BLOCK})*"
    rf"(?:{_LINES}[A-Za-z0-9+/=]*{_LINES}(?:-----END (?:[A-Z0-9]+ ){{0,3}}PRIVATE KEY(?: BLOCK)?-----|\Z))?"
)
"""RFC 7468, RFC 1421 (its headers) and RFC 9580; a key that breaks off is one too."""


def provider_keys(**options: Unpack[_Options]) -> Pattern:
    """Keys and tokens of well-known services, private keys, and JSON Web Tokens.

    Those that say whose they are: of OpenAI, Anthropic, Google, AWS, Groq, OpenRouter, Hugging
    Face, GitHub, GitLab, Slack, Stripe, npm, PyPI, SendGrid, Twilio and others; private keys in PEM
    (with nothing of them left, also if they break off). AWS's secret keys and Azure's keys are mere
    letters and digits: they are found after their usual names (``AWS_SECRET_ACCESS_KEY=…``,
    ``AccountKey=…``, ``api-key: …``), which are masked with them. ``options`` are those of every
    guard: ``name`` (``"provider_keys"``), ``fields``, ``action``, ``mask`` and ``result``.

    Not recognized are keys without a mark of their own (of Mistral or Cohere, Twilio's auth tokens,
    LiteLLM's virtual keys), passwords, and what is encoded once more. Placeholders of the same form
    are taken for keys.

    Raises: ConfigurationError for an option that cannot be.
    """
    return _rule("provider_keys", _keys(), options)


@lru_cache(maxsize=1)
def _keys() -> str:
    ways = [*(how for _, how in _KEYS), *(_named_key(*row[1:]) for row in _NAMED_KEYS)]
    return f"{_EDGE}(?:{'|'.join(ways)})|{_PRIVATE_KEY}"


def _named_key(names: str, least: int) -> str:
    either = re.sub("[a-z]", lambda letter: f"[{letter[0]}{letter[0].upper()}]", names)
    return f"(?:{'|'.join(either.split())}){_IS}{_BASE64}{{{least}}}{_BASE64}*={{0,2}}"


# URLs

_CREDENTIALS = r"\w.~!$&'()*+,;=%^|\-"
"""RFC 3986's unreserved characters and its delimiters; also letters that should be encoded."""


def credential_urls(**options: Unpack[_Options]) -> Pattern:
    """User and password in a URL: ``://user:password@`` of ``scheme://user:password@host``.

    The rest of the URL stays, so that one sees what was connected to: the mask is
    ``"://[redacted]@"`` unless ``mask`` says otherwise. The user may be missing (``redis://:pw@``),
    the password may have an ``@`` in it. ``options`` are those of every guard: ``name``
    (``"credential_urls"``), ``fields``, ``action``, ``mask`` and ``result``.

    Not recognized are a user without a password (``ssh://git@host``), and passwords with a ``/``,
    a quote or a bracket in them, which a URL must encode.

    Raises: ConfigurationError for an option that cannot be.
    """
    options.setdefault("mask", "://[redacted]@")
    return _rule("credential_urls", _urls(), options)


@lru_cache(maxsize=1)
def _urls() -> str:
    return rf"{_WORD_EDGE}://[{_CREDENTIALS}]*:[{_CREDENTIALS}:@]+@"


def _rule(name: str, regex: str, options: _Options, valid: Checksum | None = None) -> Pattern:
    options.setdefault("name", name)
    return Pattern(regex=regex, valid=valid, **options)
