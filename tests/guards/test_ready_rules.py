"""What the ready rules find, and what they leave alone: rows with their sources, and generated ones.

Numbers are those that payment networks, the IBAN registry and telephone regulators publish for
tests, documentation and films; keys are made up in the form that providers document.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import THOROUGH, in_turn, thorough
from test_checksums import by_luhn, by_mod_97

from streamll.guards import Pattern, TextGuard, guard_text, ruleset
from streamll.guards.ready import (
    card_numbers,
    credential_urls,
    emails,
    ibans,
    phone_numbers,
    provider_keys,
)

RULES = [card_numbers, emails, phone_numbers, ibans, provider_keys, credential_urls]
MASK = "[redacted]"

STRIPE = [
    "4242424242424242",
    "4000056655665556",
    "5555555555554444",
    "2223003122003222",
    "5200828282828210",
    "5105105105105100",
    "378282246310005",
    "371449635398431",
    "6011111111111117",
    "6011000990139424",
    "6011981111111113",
    "3056930009020004",
    "36227206271667",
    "6555900000604105",
    "3566002020360505",
    "6200000000000005",
    "6200000000000047",
    "6205500000000000004",
]  # docs.stripe.com/testing
AUTHORIZE = [
    "370000000000002",
    "6011000000000012",
    "4007000000027",
    "4012888818888",
    "3088000000000017",
]
ADYEN = [
    "5413 3300 8909 9999",
    "6000 0707 3616 9237 003",
    "6799 9989 0000 0099 990",
    "6243 0300 0000 0001",
    "2308 8800 0000 0000",
]  # docs.adyen.com, test cards of terminals
PRINTED = [
    "4242 4242 4242 4242",
    "4242-4242-4242-4242",
    "4242\u00a04242\u00a04242\u00a04242",
    "4242\u20114242\u20114242\u20114242",
    "3782 822463 10005",
    "3622 720627 1667",
    "620550 0000000000004",
    "4222 222 222 222",
    "4222222222222",
    "1354 1001 4004 955",
]
NO_CARDS = [
    "4242424242424241",  # the check digit
    "4242 4242 4242 4241",
    "42424242424242422",  # 17 digits
    "7992739871 3",  # Luhn's own example: nobody issues 79
    "1111111111111117",
    "4242 4242",
    "4242  4242  4242  4242",
    "4242.4242.4242.4242",
    "4 242 424 242 424 242",
    "x4242424242424242",
    "4242424242424242USD",
    "978-0-306-40615-7",
    "2024-01-02 03:04:05",
    "1700000000000",
    "123e4567-e89b-12d3-a456-426614174000",
    "6.02214076e23",
    "192.168.100.200",
    "$4,242,424.24",
]

EMAILS = [
    "anna@example.org",
    "anna.b@example.org",
    "anna+news@mail.example.co.uk",
    "a@b.io",
    "o'hara@example.org",
    "a!#$%&'*+/=?^_`{|}~-b@example.org",  # all that HTML takes
    "a..b@example.org",  # HTML does, RFC 5322 does not
    "x.@example.org",
    "1234567890@example.org",
    "first-last@ex-ample.org",
    "name@xn--e1afmkfd.xn--p1ai",
    "A.B@EXAMPLE.ORG",
    "почта@пример.рф",
    "josé@exämple.de",
    "user@例子.中国",
    "उपयोगकर्ता@उदाहरण.भारत",
    "a" * 64 + "@example.org",
    "a@" + "b" * 63 + ".org",
]
NO_EMAILS = [
    "root@localhost",
    "react@18.2.0",
    "actions/checkout@v4",
    "@anna",
    "anna@",
    "a@b.c",
    "anna @example.org",
    "anna@ example.org",
    "anna@-example-.",
    "name at example dot org",
    "anna@[192.0.2.1]",
    "anna@exa_mple",
    "2 @ 3.50",
    "f(x)@y",
    "@property\ndef",
    "git@github",
]
AROUND_EMAILS = [
    ("<anna@example.org>", f"<{MASK}>"),
    ("**anna@example.org**", f"**{MASK}**"),
    ("_anna@example.org_", f"{MASK}_"),
    ("mailto:anna@example.org?subject=x", f"mailto:{MASK}?subject=x"),
    ("anna@example.org.", f"{MASK}."),
    ("请写anna@example.org获取帮助", f"请写{MASK}获取帮助"),
    ("a@example.org,b@example.org", f"{MASK},{MASK}"),
    ("a@example.org b@example.org", f"{MASK} {MASK}"),
    ("用户@例子.中国", "用户@例子.中国"),
]

PHONES = [
    "+1 212-555-0100",  # NANPA: 555-0100 to 555-0199 are for films
    "+12125550100",
    "+1 (212) 555-0199",
    "(212) 555-0100",
    "(212)555-0100",
    "212-555-0100",
    "212.555.0100",
    "212 555 0100",
    "1-800-555-0199",
    "212\u2011555\u20110100",
    "020 7946 0958",  # Ofcom: numbers for drama
    "(020) 7946 0958",
    "+44 20 7946 0958",
    "+44 (0)20 7946 0958",
    "01632 960983",
    "01632960983",
    "07700 900123",
    "+447700900123",
    "030 23125 000",  # Bundesnetzagentur, Mitteilung 148/2021
    "030/23125000",
    "030 / 23125 000",
    "030 23 12 50 00",
    "+49 30 23125-000",
    "0049 30 23125 000",
    "+49 (0) 30 23125 000",
    "0152 28817386",
    "0171-3920012",
    "01 99 00 12 34",  # Arcep, plan national de numérotation
    "01.99.00.12.34",
    "06-39-98-12-34",
    "0639981234",
    "0123456780",
    "+33 6 39 98 12 34",
    "02 5550 1234",  # ACMA: numbers for creative works
    "(02) 5550 1234",
    "0491 570 006",
    "+61 491 570 006",
    "08-465 004 00",  # PTS: numbers for books and films
    "070-174 06 05",
    "070-1740605",
    "+46 70 174 06 05",
    "+41 22 730 59 89",  # ITU, of E.123
    "022 730 59 89",
    "0463-12-3456",
    "03-1234-5678",
    "(11) 91234-5678",
    "138 0013 8000",
    "98765 43210",
    "8 (495) 123-45-67",
    "+7 495 123-45-67",
    "+39 06 1234 5678",
    "+376 312 345",
    "011 44 20 7946 0958",
]
NO_PHONES = [
    "2024-01-02",
    "01.02.2024 10:30",
    "01-02-2024 10:30",
    "01/02/2024",
    "2024-01-02T03:04:05+01:00",
    "20240102",
    "10:30-12:45",
    "1990-2000",
    "(12) 2010-2015",
    "$1,234,567.89",
    "1.234.567,89 €",
    "612 345 678",
    "+250 000 000",
    "+12 500 000",
    "+5%",
    "v1.2.3.4567",
    "192.168.100.200",
    "2.10.0",
    "2125550100",
    "0123456789",
    "01234567890",
    "0012345678",
    "555-0100",
    "978-0-306-40615-7",
    "1700000000",
    "123-45-6789",
    "4242 4242 4242 4242",
    "90210-1234",
    "3.14159265358979",
    "52.520008, 13.404954",
    "123e4567-e89b-12d3-a456-426614174000",
    "100 200 300",
    "0.5 0.25 0.125",
    "00:11:22:33:44:55",
]

REGISTRY = [
    "AD1200012030200359100100",
    "AE070331234567890123456",
    "AL47212110090000000235698741",
    "AT611904300234573201",
    "AX2112345600000785",
    "AZ21NABZ00000000137010001944",
    "BA391290079401028494",
    "BE68539007547034",
    "BG80BNBG96611020345678",
    "BH67BMAG00001299123456",
    "BI4210000100010000332045181",
    "BL6820041010050500013M02606",
    "BR1800360305000010009795493C1",
    "BR6699999A03000010009795493C1",
    "BY13NBRB3600900000002Z00AB00",
    "CH9300762011623852957",
    "CR05015202001026284066",
    "CY17002001280000001200527600",
    "CZ6508000000192000145399",
    "DE89370400440532013000",
    "DJ2110002010010409943020008",
    "DK5000400440116243",
    "DO28BAGR00000001212453611324",
    "EE382200221020145685",
    "EG380019000500000000263180002",
    "ES9121000418450200051332",
    "FI2112345600000785",
    "FK88SC123456789012",
    "FO6264600001631634",
    "FR1420041010050500013M02606",
    "GB29NWBK60161331926819",
    "GE29NB0000000101904917",
    "GF4120041010050500013M02606",
    "GI75NWBK000000007099453",
    "GL8964710001000206",
    "GP1120041010050500013M02606",
    "GR1601101250000000012300695",
    "GT82TRAJ01020000001210029690",
    "HN88CABF00000000000250005469",
    "HR1210010051863000160",
    "HU42117730161111101800000000",
    "IE29AIBK93115212345678",
    "IL620108000000099999999",
    "IQ98NBIQ850123456789012",
    "IS140159260076545510730339",
    "IT60X0542811101000000123456",
    "JO94CBJO0010000000000131000302",
    "KW81CBKU0000000000001234560101",
    "KZ86125KZT5004100100",
    "LB62099900000001001901229114",
    "LC55HEMM000100010012001200023015",
    "LI21088100002324013AA",
    "LT121000011101001000",
    "LU280019400644750000",
    "LV80BANK0000435195001",
    "LY83002048000020100120361",
    "MC5811222000010123456789030",
    "MD24AG000225100013104168",
    "ME25505000012345678951",
    "MF8420041010050500013M02606",
    "MK07250120000058984",
    "MN121234123456789123",
    "MQ5120041010050500013M02606",
    "MR1300020001010000123456753",
    "MT84MALT011000012345MTLCAST001S",
    "MU17BOMM0101101030300200000MUR",
    "NC8420041010050500013M02606",
    "NI45BAPR00000013000003558124",
    "NL91ABNA0417164300",
    "NO9386011117947",
    "OM810180000001299123456",
    "PF5720041010050500013M02606",
    "PK36SCBL0000001123456702",
    "PL61109010140000071219812874",
    "PM3620041010050500013M02606",
    "PS92PALS000000000400123456702",
    "PT50000201231234567890154",
    "QA58DOHB00001234567890ABCDEFG",
    "RE4220041010050500013M02606",
    "RO49AAAA1B31007593840000",
    "RS35260005601001611379",
    "RU0204452560040702810412345678901",
    "SA0380000000608010167519",
    "SC18SSCB11010000000000001497USD",
    "SD8811123456789012",
    "SE4550000000058398257466",
    "SI56191000000123438",
    "SK3112000000198742637541",
    "SM86U0322509800000000270100",
    "SO211000001001000100141",
    "ST68000100010051845310112",
    "SV62CENR00000000000000700025",
    "TF2120041010050500013M02606",
    "TL380080012345678910157",
    "TN5910006035183598478831",
    "TR330006100519786457841326",
    "UA213223130000026007233566001",
    "VA59001123000012345678",
    "VG96VPVG0000012345678901",
    "WF9120041010050500013M02606",
    "XK051212012345678906",
    "YE15CBYE0001018861234567891234",
    "YT3120041010050500013M02606",
]  # the registry's examples, one or two of each country
OTHER_IBANS = [
    "DE89 3704 0044 0532 0130 00",
    "DE89\u00a03704\u00a00044\u00a00532\u00a00130\u00a000",
    "DE89-3704-0044-0532-0130-00",
    "de89 3704 0044 0532 0130 00",
    "GB29 NWBK 6016 1331 9268 19",
    "gb29nwbk60161331926819",
    "MT84 MALT 0110 0001 2345 MTLC AST0 01S",
    "MC11 1273 9000 7000 1111 1000 h79",
]
NO_IBANS = [
    "DE89370400440532013001",  # its last digit
    "DE98370400440532013000",  # its check digits the other way round
    "AL48212110090000000235698741",
    "DE8937040044053201300",  # too short
    "DE893704004405320130000",  # too long
    "XX96110000000029185996",  # no such country
    "DE00370400440000000060",  # check digits that ISO/IEC 7064 never gives
    "DE01370400440000000042",
    "DE99370400440000000024",
    "De89370400440532013000",
    "DE 89370400440532013000",
    "DE89 370 400440 53201300 0",
    "DE89  3704 0044 0532 0130 00",
    "ADE89370400440532013000",
    "GB2960161331926819NWBK",
    "NL91 is a road",
    "it is me, no?",
    "IS 14001",
]

HEX = "0123456789abcdef"
MIXED = "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zA"  # 32 letters and digits
JOE = (
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
)
KEYS = [
    "sk-proj-" + MIXED + "_" + MIXED + "-T3BlbkFJ" + MIXED,
    "sk-svcacct-" + MIXED,
    "sk-" + MIXED[:20] + "T3BlbkFJ" + MIXED[:20],
    "sk-" + HEX + HEX,
    "sk-ant-api03-" + MIXED + "-" + MIXED + "_" + MIXED[:27] + "AA",
    "sk-ant-admin01-" + MIXED,
    "sk-or-v1-" + HEX * 4,
    "sk-lf-123e4567-e89b-12d3-a456-426614174000",
    "AIza" + "SyabcdefghijklmnopqrstuvwxyZ1234567",
    "AQ.Ab" + MIXED,
    "ya29." + MIXED,
    "GOCSPX-" + MIXED[:28],
    "gsk_" + MIXED + MIXED[:20],
    "xai-" + MIXED * 2 + MIXED[:16],
    "pplx-" + MIXED + MIXED[:16],
    "r8_" + MIXED + MIXED[:5],
    "nvapi-" + MIXED * 2,
    "csk-" + HEX * 3,
    "fw_" + MIXED[:24],
    "tgp_v1_" + MIXED + MIXED[:11],
    "sk_" + HEX * 3,
    "tvly-dev-" + MIXED,
    "pcsk_" + MIXED[:6] + "_" + MIXED * 2,
    "lsv2_pt_" + HEX * 2 + "_" + HEX[:10],
    "glc_" + MIXED * 2 + "==",
    "hf_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH",
    "AKIA" + "IOSFODNN7EXAMPLE",  # AWS documentation
    "ASIA" + "IOSFODNN7EXAMPLE",
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + "EXAMPLEKEY",
    'AWS_SECRET_ACCESS_KEY="wJalrXUtnFEMI/K7MDENG/bPxRfiCY' + "EXAMPLEKEY",
    'SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCY' + "EXAMPLEKEY",
    "ABSK" + MIXED * 4,
    "AZURE_OPENAI_API_KEY=" + MIXED + MIXED[:20] + "JQQJ99BDACfhMk5XJ3w3AAABACOGkDUM",
    "api-key: " + HEX + HEX,
    "AccountKey=" + MIXED * 2 + MIXED[:22] + "==",
    *(f"gh{kind}_" + MIXED + MIXED[:4] for kind in "oprsu"),
    "github_pat_" + MIXED[:22] + "_" + MIXED + MIXED[:27],
    "glpat-" + MIXED[:20],
    "glpat-" + MIXED + ".01.0w1abcdef",
    "glrt-" + MIXED[:20],
    "xoxb-" + "123456789012-1234567890123-" + MIXED[:24],
    "xoxp-" + "12345678901-1234567890-12345678901-" + HEX + HEX,
    "xoxe.xoxp-" + "1-" + MIXED * 2,
    "xapp-1-" + "A0123456789-1234567890123-" + HEX * 4,
    "hooks.slack.com/services/" + "T00000000/B00000000/" + "X" * 24,
    "sk_live_" + MIXED[:24],
    "rk_test_" + MIXED[:24],
    "whsec_" + MIXED,
    "npm_" + MIXED + MIXED[:4],
    "pypi-" + "AgEIcHlwaS5vcmc" + MIXED * 2,
    "rubygems_" + HEX * 3,
    "dckr_pat_" + MIXED[:27],
    "SG." + MIXED[:22] + "." + MIXED + MIXED[:11],
    "SK" + HEX + HEX,
    "1234567890:AA" + MIXED + "x",
    "dop_v1_" + HEX * 4,
    "dapi" + HEX + HEX,
    "shpat_" + HEX + HEX,
    "sq0atp-" + MIXED[:22],
    "lin_api_" + MIXED + MIXED[:8],
    "ntn_" + "12345678901" + MIXED + "abc",
    "glsa_" + MIXED + "_" + HEX[:8],
    "hvs." + MIXED * 3,
    "AGE-SECRET-KEY-1" + "Q" * 58,
    # RFC 7519, 3.1
    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9."
    + JOE
    + ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
    "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ0ZXN0LXVzZXIifQ.",
]
NO_KEYS = [
    "sk-learn-contrib-and-something-that-is-long",
    "sk-proj-short",
    "sk-ant-api03-" + "…",
    "task-" + MIXED,
    "sklearn",
    "AKIA",
    "AKIA" + MIXED,
    "TODAYINASIAASACKOFRICEFELLOVER",
    "AIza-short",
    "hf_hub_download",
    "api_key = os.environ",
    "api-key: your key",
    "xoxb-my-bot-token",
    "ghp_xxx",
    "npm_config_registry",
    "SG.1 and SG.2",
    "SK" + HEX + HEX + "00",
    "eyJhbGciOiJIUzI1NiJ9",
    HEX * 4,
    "123e4567-e89b-12d3-a456-426614174000",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "-----BEGIN PRIVATE KEY----- is how it begins",
    "-----BEGIN PUBLIC KEY-----\n" + MIXED + "\n-----END PUBLIC KEY-----",
    "password: correct horse battery staple",
]

URLS = [
    "user:password@",
    "user:p%40ss@",
    ":password@",
    "anna:Pa$$w0rd!@",
    "user:p@ss@",
    "user:a:b@",
    "x-token:" + MIXED + "@",
    "u:p@",
    "user:пароль@",
]
AROUND_URLS = [
    ("postgresql://u:p@db.example.org:5432/app", "postgresql://[redacted]@db.example.org:5432/app"),
    ("redis://:pw@cache.example.org/0", "redis://[redacted]@cache.example.org/0"),
    ("mongodb+srv://u:p@c.example.org", "mongodb+srv://[redacted]@c.example.org"),
    ('"https://u:p@h/?a=b@c"', '"https://[redacted]@h/?a=b@c"'),
    ("a://u:p@h b://v:q@i", "a://[redacted]@h b://[redacted]@i"),
    ("见https://u:p@h。", "见https://[redacted]@h。"),
]
NO_URLS = [
    "http://localhost:8000/",
    "http://localhost:8000",
    "https://example.org/a:b@c",
    "https://example.org?x=a:b@c",
    "ssh://git@example.org/x.git",
    "git@example.org:owner/name.git",
    "https://github.com/@anna",
    "https://example.org:8000, anna@example.org",
    '{"url":"http://h:80","mail":"anna@example.org"}',
    "[x](http://h:80) and anna@example.org",
    "postgres://{user}:{password}@host",
    "postgres://<user>:<password>@host",
    "http://[::1]:8000/@",
    "note: a@b",
    "C:\\a:b@c",
    "mailto:anna@example.org",
]


FOUND = {
    card_numbers: [*STRIPE, *AUTHORIZE, *ADYEN, *PRINTED],
    emails: EMAILS,
    phone_numbers: PHONES,
    ibans: [*REGISTRY, *OTHER_IBANS],
    provider_keys: KEYS,
}
LEFT_ALONE = {
    card_numbers: NO_CARDS,
    emails: NO_EMAILS,
    phone_numbers: NO_PHONES,
    ibans: NO_IBANS,
    provider_keys: NO_KEYS,
    credential_urls: NO_URLS,
}


def by_name(rule: Callable[..., Pattern]) -> str:
    return rule.__name__


def guarded(rule: Pattern, *pieces: str) -> str:
    guard = TextGuard(ruleset((rule,)))
    return "".join([*map(guard.feed, pieces), guard.finish()])


def read_in_every_way(rule: Pattern, text: str) -> set[str]:
    """Whole, by one character, cut once: at every place where the run is thorough."""
    cuts = range(1, len(text))
    if not THOROUGH:
        cuts = random.Random(text).sample(cuts, min(len(cuts), 4))
    return {
        guarded(rule, text),
        guarded(rule, *text),
        *(guarded(rule, text[:cut], text[cut:]) for cut in cuts),
    }


AROUND = ("{0}", "so: {0}, ok", "“{0}”\n{0}", "是{0}。")


@pytest.mark.parametrize("rule", FOUND, ids=by_name)
def test_it_is_masked_wherever_it_stands_and_however_it_is_cut(rule):
    for text, around in in_turn(FOUND[rule], AROUND, every=2):
        shown = read_in_every_way(rule(), around.format(text))
        assert shown == {around.format(MASK)}, text


@pytest.mark.parametrize("rule", [rule for rule in FOUND if rule is not emails], ids=by_name)
def test_it_is_masked_between_underscores_as_emphasis_has_them(rule):
    for text, signs in in_turn(FOUND[rule], ["_", "__", "___"]):
        for shown in read_in_every_way(rule(), f"so {signs}{text}{signs} ok"):
            assert re.fullmatch(rf"so _*{re.escape(MASK)}_* ok", shown), (text, shown)


@pytest.mark.parametrize("rule", LEFT_ALONE, ids=by_name)
def test_what_only_looks_like_it_is_left_alone(rule):
    for text in LEFT_ALONE[rule]:
        for around in (text, f"so: {text}, ok", f"({text})\n{text}."):
            assert read_in_every_way(rule(), around) == {around}, text


@pytest.mark.parametrize("user", URLS)
def test_users_and_passwords_are_masked_and_the_rest_of_the_url_stays(user):
    text = f"at postgresql://{user}db.example.org/app, ok"
    expected = "at postgresql://[redacted]@db.example.org/app, ok"
    assert read_in_every_way(credential_urls(), text) == {expected}


@pytest.mark.parametrize(
    ("rule", "text", "expected"),
    [
        *((emails(), *row) for row in AROUND_EMAILS),
        *((credential_urls(), *row) for row in AROUND_URLS),
    ],
)
def test_what_is_around_it_stays(rule, text, expected):
    assert read_in_every_way(rule, text) == {expected}


# Private keys

LINE = MIXED * 2
PRIVATE_KEYS = [
    f"-----BEGIN {kind}PRIVATE KEY{block}-----\n{LINE}\n{LINE}\n{MIXED[:10]}=\n"
    f"-----END {kind}PRIVATE KEY{block}-----"
    for kind, block in [("", ""), ("RSA ", ""), ("OPENSSH ", ""), ("EC ", ""), ("PGP ", " BLOCK")]
]
LEGACY = PRIVATE_KEYS[1].replace("-----\n", "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: X,0A\n\n", 1)


@pytest.mark.parametrize(
    "key",
    [
        *PRIVATE_KEYS,
        LEGACY,
        PRIVATE_KEYS[0].replace("\n", "\r\n"),
        PRIVATE_KEYS[0].replace("\n", "\\n"),
        PRIVATE_KEYS[0].replace("\n", "\n    "),
    ],
)
def test_a_private_key_leaves_nothing_of_it(key):
    assert read_in_every_way(provider_keys(), f"so:\n{key}\nok") == {f"so:\n{MASK}\nok"}


@pytest.mark.parametrize("length", [50, 95, 96, 120, 170])
def test_a_private_key_that_breaks_off_leaves_nothing_either(length):
    assert read_in_every_way(provider_keys(), f"so: {PRIVATE_KEYS[0][:length]}") == {f"so: {MASK}"}


# Generated


NETWORKS = [
    # what ISO/IEC 7812's registrants use: first digits, number of digits
    ("4", 16), ("4", 13), ("4", 19), ("51", 16), ("55", 16), ("2221", 16), ("2720", 16), ("2500", 16),
    ("34", 15), ("37", 15), ("36", 14), ("305", 14), ("6011", 16), ("65", 16), ("644", 19),
    ("3528", 16), ("3589", 17), ("62", 16), ("62", 19), ("8171", 18), ("50", 12), ("6759", 18),
    ("58", 13), ("2202", 16), ("9792", 16), ("9860", 16), ("1", 15),
]  # fmt: skip


@st.composite
def card(draw: st.DrawFn, networks: list[tuple[str, int]] = NETWORKS) -> str:
    prefix, length = draw(st.sampled_from(networks))
    body = length - len(prefix) - 1
    start = prefix + draw(st.text(string.digits, min_size=body, max_size=body))
    return next(start + digit for digit in string.digits if by_luhn(start + digit))


@given(card(), st.sampled_from(["", " ", "-", "\u202f"]))
def test_every_valid_card_number_is_masked_and_no_other_digit_makes_one(number, gap):
    in_fours = gap.join(re.findall(".{1,4}", number))
    rule = card_numbers()
    assert guarded(rule, *f"so {number}.") == f"so {MASK}."
    assert guarded(rule, *f"so {in_fours}.") == f"so {MASK}."


@given(card(), st.data())
def test_a_card_number_with_one_digit_changed_is_none(number, data):
    at = data.draw(st.integers(0, len(number) - 1))
    digit = data.draw(st.sampled_from([d for d in string.digits if d != number[at]]))
    changed = f"so {number[:at]}{digit}{number[at + 1 :]}."
    assert guarded(card_numbers(), *changed) == changed


@st.composite
def account(draw: st.DrawFn) -> str:
    """Like an example of the registry, with other digits and letters and their check digits."""
    like = draw(st.sampled_from(REGISTRY))
    body = "".join(
        draw(st.sampled_from(string.digits if char.isdigit() else string.ascii_uppercase))
        for char in like[4:]
    )
    return next(iban for check in range(2, 99) if by_mod_97(iban := f"{like[:2]}{check:02}{body}"))


@settings(max_examples=thorough(300))
@given(account(), st.sampled_from(["", " ", "-"]), st.sampled_from([str.upper, str.lower]))
def test_every_valid_iban_is_masked(iban, gap, case):
    printed = case(gap.join(re.findall(".{1,4}", iban)))
    assert guarded(ibans(), *f"so {printed}.") == f"so {MASK}."


@given(account(), st.data())
def test_an_iban_with_one_digit_changed_is_none(iban, data):
    at = data.draw(st.sampled_from([at for at, char in enumerate(iban) if char.isdigit()]))
    digit = data.draw(st.sampled_from([d for d in string.digits if d != iban[at]]))
    changed = f"so {iban[:at]}{digit}{iban[at + 1 :]}."
    assert guarded(ibans(), *changed) == changed


HTML = re.compile(
    r"[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
    r"(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*"
)
"""A valid e-mail address as the HTML standard has it, for ``<input type=email>``."""


SIGNS = ".!#$%&'*+/=?^`{|}~-"


@given(
    st.text(SIGNS, max_size=3),
    st.from_regex("[aZ5_]", fullmatch=True),
    st.text("aZ5_" + SIGNS, max_size=60),
    st.lists(st.from_regex("[bY7]([bY7-]{0,9}[bY7])?", fullmatch=True), min_size=1, max_size=3),
    st.sampled_from(["org", "museum", "io"]),
)
def test_of_an_address_that_html_takes_only_signs_before_it_stay(signs, first, local, labels, top):
    address = f"{first}{local}@{'.'.join(labels)}.{top}"
    assert HTML.fullmatch(signs + address)
    assert guarded(emails(), *f"so {signs}{address}, ok") == f"so {signs}{MASK}, ok"


# Holding


@given(st.text(string.digits, min_size=19, max_size=19), st.integers(2, 98))
def test_an_iban_is_awaited_just_as_long_as_some_digit_can_make_it_valid(rest, check):
    guard = TextGuard(ruleset((ibans(),)))
    start = f"DE{check:02}{rest[:16]}"
    assert guard.feed(start) == ""
    may_be = any(by_mod_97(f"{start}{rest[16]}{digit}") for digit in string.digits)
    assert guard.feed(rest[16]) == ("" if may_be else start + rest[16])


@given(card([("51", 16), ("37", 15)]), st.integers(1, 9))
def test_a_card_number_is_awaited_to_its_check_digit_and_no_further(number, more):
    guard = TextGuard(ruleset((card_numbers(),)))
    assert guard.feed(number[:-1]) == ""
    other = str((int(number[-1]) + more) % 10)
    assert guard.feed(other) == number[:-1] + other


PROSE = """
It is 10:30 on 2024-01-02; no more than 50% of the 30 people (at most) who said "yes!" in DE or NL
paid $1,234.50 each, or 3.14 + 5 -- see [1], `code_like_this(x)`, **bold**, sky-high, sk, AI and key:
http://localhost:8000/path of Asia's "sk-learn". De 20 à 30, der 2. Mai, it's 1 of 2, me too.
"""


@pytest.mark.parametrize("rule", RULES)
def test_ordinary_text_goes_out_with_the_blank_after_each_word(rule):
    guard = TextGuard(ruleset((rule(),)))
    for word in re.findall(r"\S+\s", PROSE):
        assert guard.feed(word) == word


def test_all_but_addresses_let_a_word_go_before_it_ends():
    guard = TextGuard(ruleset(tuple(rule() for rule in RULES if rule is not emails)))
    for word in ("The", " people", " who", " went", " there", " were", " many", "."):
        assert guard.feed(word) == word


def test_an_address_is_not_awaited_for_longer_than_it_may_be():
    guard = TextGuard(ruleset((emails(),)))
    assert guard.feed("a" * 64) == ""
    assert guard.feed("a") == "a" * 65
    assert len(guard.feed("b/b+b=" * 100)) >= 600 - 64


def test_a_key_goes_out_as_its_mask_before_it_ends():
    guard = TextGuard(ruleset((provider_keys(),)))
    assert guard.feed("key " + KEYS[0][:40]) == f"key {MASK}"
    assert guard.feed(KEYS[0][40:]) == ""


# Options


@pytest.mark.parametrize("rule", RULES)
def test_options_are_those_of_every_guard(rule):
    own = rule(name="own", mask="…", action="drop", fields=["answer"], result=True)
    assert (own.name, own.mask, own.action) == ("own", "…", "drop")
    assert (own.fields, own.result) == (frozenset({"answer"}), True)
    assert rule().name == rule.__name__


def test_all_of_them_at_once():
    text = f"{EMAILS[0]} {REGISTRY[0]} {PHONES[0]}; {STRIPE[0]}, {KEYS[0]}"
    masked, hits = guard_text(ruleset(tuple(rule() for rule in RULES)), text)
    assert masked == f"{MASK} {MASK} {MASK}; {MASK}, {MASK}"
    assert [hit.guard.name for hit in hits] == [
        "emails", "ibans", "phone_numbers", "card_numbers", "provider_keys"
    ]  # fmt: skip
