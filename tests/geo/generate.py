#!/usr/bin/env python3
"""Makes the databases beside this file. Needs `pip install mmdb_writer`; the same input gives the same bytes.

The networks are those that RFC 5737 and RFC 3849 keep for documentation.
"""

from pathlib import Path

from mmdb_writer import MMDBWriter
from netaddr import IPSet

BUILT = 1_790_000_000


class Writer(MMDBWriter):
    def __init__(self, kind):
        super().__init__(6, kind, languages=["en"], description=f"{kind} for tests", ipv4_compatible=True)

    def _build_meta(self):
        return super()._build_meta() | {"build_epoch": BUILT}


def database(name, kind, networks):
    writer = Writer(kind)
    for network, content in networks.items():
        writer.insert_network(IPSet([network]), content)
    writer.to_db_file(str(Path(__file__).with_name(name)))


def country(code):
    return {"country": {"iso_code": code, "names": {"en": f"The country {code}"}}}


COUNTRIES = {
    "192.0.2.0/24": country("DE"),
    # Of a richer database: what else it says must not be in the way.
    "192.0.2.128/25": {
        "city": {"names": {"en": "Somewhere"}},
        "continent": {"code": "EU"},
        "location": {"latitude": 48.2, "longitude": 16.4},
        **country("AT"),
        "registered_country": {"iso_code": "DE"},
    },
    "198.51.100.0/26": country("US"),
    # Nothing that could be compared: only where the network is registered, no code, a number, too many letters.
    "198.51.100.64/26": {"registered_country": {"iso_code": "FR"}},
    "198.51.100.128/26": {"country": {"names": {"en": "Nowhere"}}},
    "198.51.100.192/27": {"country": {"iso_code": 7}},
    "198.51.100.224/27": country("XYZ"),
    "2001:db8:1::/48": country("JP"),
}

database("countries.mmdb", "Test-Country", COUNTRIES)
# The same after somebody moved, and after this machine was found.
database("moved.mmdb", "Test-Country", COUNTRIES | {"192.0.2.0/25": country("US"), "127.0.0.0/8": country("CH")})
database("asn.mmdb", "Test-ASN", {"192.0.2.0/24": {"autonomous_system_number": 64496}})
