#!/usr/bin/env python3
"""Logs in at a SimpleSAMLphp of its own and writes its responses to tests/saml/foreign.

    apt-get install --no-install-recommends simplesamlphp php-cli php-xml php-sqlite3 php-curl php-mbstring
    tests/saml/simplesamlphp.py [REQUEST]

REQUEST: an address as `ServiceProvider::start` gives it, or a file with the base64 of a posted request, to see whether
SimpleSAMLphp takes a signature of ours (by `keys/foreign.crt`). Nothing is written then.
"""
import base64
import html
import http.cookiejar
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib

HERE = pathlib.Path(__file__).parent
OUT = HERE / "foreign"
PORT = 8089
BASE = f"http://127.0.0.1:{PORT}/simplesaml"
SSO = f"{BASE}/saml2/idp/SSOService.php"
ACS = "https://team.example.com/cdn-cgi/access/callback"
REQUEST = "_0123456789abcdef0123456789abcdef"
GROUPS = ["Everyone", "R&D <x>", "Vertrieb, Köln"] + [f"Group {n}" for n in range(147)]


def php(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(php(one) for one in value) + "]"
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def body(name):
    return "".join(line for line in (HERE / "keys" / name).read_text().splitlines() if not line.startswith("-"))


def configure(root, options):
    for folder in ("metadata", "log", "data", "tmp"):
        (root / folder).mkdir(exist_ok=True)
    (root / "config.php").write_text(f"""<?php $config = [
        'baseurlpath' => '{BASE}/', 'certdir' => '{HERE / "keys"}/', 'loggingdir' => '{root}/log/', 'datadir' => '{root}/data/',
        'tempdir' => '{root}/tmp', 'metadatadir' => '{root}/metadata/', 'attributenamemapdir' => '/etc/simplesamlphp/attributemap/',
        'secretsalt' => 'tests', 'auth.adminpassword' => 'tests', 'timezone' => 'UTC', 'logging.handler' => 'file', 'logging.level' => 7,
        'enable.saml20-idp' => true, 'module.enable' => ['exampleauth' => true, 'core' => true, 'saml' => true],
        'session.cookie.secure' => false, 'language.cookie.secure' => false, 'session.phpsession.savepath' => '{root}/tmp', 'store.type' => 'phpsession',
        'session.cookie.samesite' => null, 'language.cookie.samesite' => null, 'showerrors' => true, 'errorreporting' => false,
        'language.default' => 'en', 'authproc.idp' => [],
        'metadata.sources' => [['type' => 'flatfile', 'directory' => '{root}/metadata']]];""")
    (root / "authsources.php").write_text(f"""<?php $config = ['people' => ['exampleauth:UserPass',
        'alice:wonder' => ['email' => ['alice@example.com'], 'department' => ['Research'], 'groups' => {php(GROUPS)}]]];""")
    (root / "metadata/saml20-idp-hosted.php").write_text("""<?php $metadata['https://idp.example/saml'] = ['host' => '__DEFAULT__',
        'privatekey' => 'idp.key', 'certificate' => 'idp.crt', 'auth' => 'people', 'SingleSignOnServiceBinding' => [
        'urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect', 'urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST']];""")
    (root / "metadata/saml20-sp-remote.php").write_text(f"""<?php $metadata['{ACS}'] = [
        'AssertionConsumerService' => '{ACS}', 'simplesaml.attributes' => true, 'NameIDFormat' => 'urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress',
        'simplesaml.nameidattribute' => 'email', 'signature.algorithm' => 'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256',
        'keys' => [['type' => 'X509Certificate', 'signing' => true, 'encryption' => false, 'X509Certificate' => '{body("foreign.crt")}'],
                   ['type' => 'X509Certificate', 'signing' => false, 'encryption' => true, 'X509Certificate' => '{body("sp.crt")}']],
        {options}];""")


def request_address():
    xml = (f'<samlp:AuthnRequest xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" AssertionConsumerServiceURL="{ACS}" ID="{REQUEST}"'
           f' IssueInstant="{time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}" Version="2.0">'
           f'<saml:Issuer xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion">{ACS}</saml:Issuer></samlp:AuthnRequest>')
    deflate = zlib.compressobj(wbits=-15)
    message = base64.b64encode(deflate.compress(xml.encode()) + deflate.flush()).decode()
    return f"{SSO}?{urllib.parse.urlencode({'SAMLRequest': message, 'RelayState': 'x'})}"


def log_in(address, form=None):
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
    page = browser.open(address, urllib.parse.urlencode(form).encode() if form else None)
    text = page.read().decode()
    state = html.unescape(re.search(r'name="AuthState" value="([^"]*)"', text).group(1))
    fields = {"username": "alice", "password": "wonder", "AuthState": state}
    answer = browser.open(page.url.split("?")[0], urllib.parse.urlencode(fields).encode()).read().decode()
    return base64.b64decode(html.unescape(re.search(r'name="SAMLResponse" value="([^"]*)"', answer).group(1))).decode()


def run(options, work):
    with tempfile.TemporaryDirectory() as root:
        root = pathlib.Path(root)
        configure(root, options)
        # The path that SimpleSAMLphp wants to be at.
        (root / "www").mkdir()
        (root / "www/simplesaml").symlink_to("/usr/share/simplesamlphp/www")
        server = subprocess.Popen(["php", "-S", f"127.0.0.1:{PORT}", "-t", str(root / "www")], stdout=subprocess.DEVNULL,
                                  stderr=open(root / "php.log", "w"), env={"SIMPLESAMLPHP_CONFIG_DIR": str(root), "PATH": "/usr/bin"})
        try:
            time.sleep(1)
            return work()
        except urllib.error.HTTPError as error:
            print((root / "php.log").read_text()[-2000:], error.read().decode()[-3000:], file=sys.stderr)
            raise
        finally:
            server.terminate()
            server.wait()


SHAPES = {
    "response-signed": "'saml20.sign.response' => true, 'saml20.sign.assertion' => false",
    "assertion-signed": "'saml20.sign.response' => false, 'saml20.sign.assertion' => true",
    "both-signed": "'saml20.sign.response' => true, 'saml20.sign.assertion' => true",
    # By CBC: before 2.0 it knows nothing else, and so this is for its refusal.
    "encrypted": "'assertion.encryption' => true",
    "sha1": "'signature.algorithm' => 'http://www.w3.org/2000/09/xmldsig#rsa-sha1'",
}

if len(sys.argv) > 1:
    signed = "'validate.authnrequest' => true, 'redirect.validate' => true"
    if sys.argv[1].startswith("http"):
        print(run(signed, lambda: log_in(sys.argv[1]))[:300])
    else:
        print(run(signed, lambda: log_in(SSO, {"SAMLRequest": pathlib.Path(sys.argv[1]).read_text(), "RelayState": "x"}))[:300])
else:
    for name, options in SHAPES.items():
        (OUT / f"simplesamlphp-{name}.xml").write_text(run(options, lambda: log_in(request_address())))
