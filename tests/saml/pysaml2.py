#!/usr/bin/env python3
"""Writes the responses of pysaml2 (with xmlsec1) to tests/saml/foreign.

    pip install pysaml2; apt-get install xmlsec1; tests/saml/pysaml2.py
"""
import base64
import pathlib
import re
import subprocess
import sys
import tempfile

from saml2 import BINDING_HTTP_POST, BINDING_HTTP_REDIRECT
from saml2.config import IdPConfig
from saml2.saml import NAMEID_FORMAT_EMAILADDRESS, NameID
from saml2.server import Server
from saml2.xmldsig import DIGEST_SHA256, DIGEST_SHA512, SIG_RSA_SHA1, SIG_RSA_SHA256, SIG_RSA_SHA512, DIGEST_SHA1

HERE = pathlib.Path(__file__).parent
OUT = HERE / "foreign"
ACS = "https://team.example.com/cdn-cgi/access/callback"
ISSUER = "http://www.okta.com/exk1"
REQUEST = "_0123456789abcdef0123456789abcdef"


def pem_body(name):
    return "".join(line for line in (HERE / "keys" / name).read_text().splitlines() if not line.startswith("-"))


SP = f"""<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" xmlns:ds="http://www.w3.org/2000/09/xmldsig#" entityID="{ACS}">
<md:SPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol" WantAssertionsSigned="true">
<md:KeyDescriptor use="encryption"><ds:KeyInfo><ds:X509Data><ds:X509Certificate>{pem_body("sp.crt")}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>
<md:AssertionConsumerService Binding="{BINDING_HTTP_POST}" Location="{ACS}" index="0" isDefault="true"/>
</md:SPSSODescriptor></md:EntityDescriptor>"""

CONFIG = {
    "entityid": ISSUER,
    "xmlsec_binary": "/usr/bin/xmlsec1",
    "service": {
        "idp": {
            "endpoints": {"single_sign_on_service": [("https://idp.example/sso", BINDING_HTTP_REDIRECT)]},
            "policy": {
                "default": {
                    "lifetime": {"minutes": 5},
                    "attribute_restrictions": None,
                    "name_form": "urn:oasis:names:tc:SAML:2.0:attrname-format:basic",
                }
            },
            "name_id_format": [NAMEID_FORMAT_EMAILADDRESS],
        }
    },
    "key_file": str(HERE / "keys" / "idp.key"),
    "cert_file": str(HERE / "keys" / "idp.crt"),
    "metadata": {"inline": [SP]},
}
PERSON = {"email": ["alice@example.com"], "groups": ["Everyone", "R&D <x>", "Vertrieb, Köln"], "department": ["Research"]}


def response(**how):
    server = Server(config=IdPConfig().load(CONFIG))
    how.setdefault("sign_alg", SIG_RSA_SHA256)
    how.setdefault("digest_alg", DIGEST_SHA256)
    xml = server.create_authn_response(
        identity=PERSON,
        in_response_to=REQUEST,
        destination=ACS,
        sp_entity_id=ACS,
        name_id=NameID(format=NAMEID_FORMAT_EMAILADDRESS, text="alice@example.com"),
        authn={"class_ref": "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport", "authn_auth": ISSUER},
        **how,
    )
    return str(xml)


def encrypted(cipher):
    """pysaml2 knows CBC alone; xmlsec1 takes any template."""
    xml = response(sign_response=False, sign_assertion=True)
    assertion = re.search(r"<(\w+):Assertion .*</\1:Assertion>", xml, re.S).group(0)
    prefix = re.match(r"<(\w+):", assertion).group(1)
    wrapped = xml.replace(assertion, f"<{prefix}:EncryptedAssertion>{assertion}</{prefix}:EncryptedAssertion>")
    template = f"""<xenc:EncryptedData xmlns:xenc="http://www.w3.org/2001/04/xmlenc#" Type="http://www.w3.org/2001/04/xmlenc#Element"><xenc:EncryptionMethod Algorithm="{cipher}"/><ds:KeyInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><xenc:EncryptedKey><xenc:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p"/><xenc:CipherData><xenc:CipherValue/></xenc:CipherData></xenc:EncryptedKey></ds:KeyInfo><xenc:CipherData><xenc:CipherValue/></xenc:CipherData></xenc:EncryptedData>"""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "message.xml").write_text(wrapped)
        (folder / "template.xml").write_text(template)
        kind = "aes-256" if "256" in cipher else "aes-128"
        subprocess.run(
            ["xmlsec1", "--encrypt", "--pubkey-cert-pem", str(HERE / "keys" / "sp.crt"), "--session-key", kind,
             "--xml-data", str(folder / "message.xml"), "--node-name", "urn:oasis:names:tc:SAML:2.0:assertion:Assertion",
             "--output", str(folder / "out.xml"), str(folder / "template.xml")],
            check=True, stderr=sys.stderr,
        )
        return (folder / "out.xml").read_text()


def write(name, xml):
    (OUT / f"pysaml2-{name}.xml").write_text(xml)


OUT.mkdir(exist_ok=True)
write("response-signed", response(sign_response=True, sign_assertion=False))
write("assertion-signed", response(sign_response=False, sign_assertion=True))
write("both-signed", response(sign_response=True, sign_assertion=True))
write("both-signed-sha512", response(sign_response=True, sign_assertion=True, sign_alg=SIG_RSA_SHA512, digest_alg=DIGEST_SHA512))
write("sha1", response(sign_response=True, sign_assertion=True, sign_alg=SIG_RSA_SHA1, digest_alg=DIGEST_SHA1))
write("unsigned", response(sign_response=False, sign_assertion=False))
write("encrypted-aes256-gcm", encrypted("http://www.w3.org/2009/xmlenc11#aes256-gcm"))
write("encrypted-aes128-gcm", encrypted("http://www.w3.org/2009/xmlenc11#aes128-gcm"))
write("encrypted-aes256-cbc", encrypted("http://www.w3.org/2001/04/xmlenc#aes256-cbc"))
