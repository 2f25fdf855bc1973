// Logs in over SAML in Chromium. Only a real browser shows if our cookies are sent with a form of another site.
//
//   node saml.mjs <portcullis>
//
// Starts `portcullis run` and a SimpleSAMLphp. Logs in with an unsigned request in a URL, and with a signed one in a form.

import { spawn } from 'node:child_process';
import { createServer, get } from 'node:http';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import assert from 'node:assert/strict';
import { freePorts, launch } from './chromium.mjs';

const [binary] = process.argv.slice(2);
assert(binary, 'usage: node saml.mjs <portcullis>');

const saml = fileURLToPath(new URL('../saml/', import.meta.url));
const folder = mkdtempSync(path.join(tmpdir(), 'portcullis-saml-'));
const running = [];
let browser;
try {
  const origin = createServer((request, response) => {
    response.end(`signed in as ${request.headers['cf-access-authenticated-user-email']}`);
  });
  await new Promise((resolve) => origin.listen(0, '127.0.0.1', resolve));
  running.push({ stop: () => origin.close() });
  writeFileSync(path.join(folder, 'options.json'), '{}');
  start(path.join(saml, 'simplesamlphp/start'), [folder]);
  const provider = await until(() => read('php.log').match(/\((http:\/\/127\.0\.0\.1:\d+)\)/)?.[1], 'php.log');
  browser = await launch();
  for (const signed of [false, true]) await logIn(provider, origin.address().port, signed);
  console.log('people come in over SAML');
} catch (error) {
  for (const name of ['proxy.log', 'php.log']) console.error(`--- ${name}\n${read(name).slice(-3000)}`);
  throw error;
} finally {
  await browser?.close();
  for (const { stop } of running.reverse()) await stop();
  rmSync(folder, { recursive: true });
}

async function logIn(provider, origin, signed) {
  const port = await freePorts(2);
  const metrics = port + 1;
  const certificate = readFileSync(path.join(saml, 'keys/idp.crt'), 'utf8').replace(/-----.*-----|\n/g, '');
  writeFileSync(path.join(folder, 'portcullis.toml'), `
[team]
name = "Example"
domain = "access.localhost:${port}"

[store]
path = "${signed}.db"

[metrics]
address = "127.0.0.1:${metrics}"

[insecure]
plain_http = true
insecure_identity_providers = true

[[listen]]
address = "127.0.0.1:${port}"

[[identity_providers]]
id = "saml"
name = "Example SAML"
type = "saml"
[identity_providers.config]
issuer_url = "https://idp.example/saml"
sso_target_url = "${provider}/simplesaml/saml2/idp/SSOService.php"
idp_public_certs = ["${certificate}"]
sign_request = ${signed}

[[applications]]
name = "Wiki"
domain = "wiki.localhost"
origin = "http://127.0.0.1:${origin}"
auto_redirect_to_identity = true
[[applications.policies]]
name = "research"
decision = "allow"
include = [{ okta = { name = "R&D <x>", identity_provider_id = "saml" } }]
`);
  const proxy = start(binary, ['run', '-c', 'portcullis.toml'], 'proxy.log');
  await until(async () => (await fetch(`http://127.0.0.1:${metrics}/readyz`).catch(() => undefined))?.ok, 'proxy.log');

  const context = await browser.newContext();
  const page = await context.newPage();
  writeFileSync(path.join(folder, 'sp.xml'), await fetchFrom(port, 'access.localhost', '/cdn-cgi/access/saml-metadata'));
  const options = { idp: { 'validate.authnrequest': signed, 'redirect.validate': signed } };
  writeFileSync(path.join(folder, 'options.json'), JSON.stringify(options));

  const sent = [];
  page.on('request', (request) => request.isNavigationRequest() && sent.push(request));
  const opened = `http://wiki.localhost:${port}/some/page?with=query`;
  await page.goto(opened);
  await page.locator('input[name=username]').waitFor();
  assert.equal(new URL(page.url()).origin, provider);
  await page.locator('input[name=username]').fill('alice');
  await page.locator('input[name=password]').fill('correct horse');
  await page.getByRole('button', { name: 'Login' }).click();
  await page.waitForURL(opened);
  assert.equal(await page.innerText('body'), 'signed in as alice@example.com', `signed: ${signed}`);
  const asked = sent.find((request) => request.url().startsWith(`${provider}/simplesaml/saml2/idp/SSOService.php`));
  const answered = sent.find((request) => request.url().endsWith('/cdn-cgi/access/callback'));
  assert.deepEqual([asked.method(), answered.method()], [signed ? 'POST' : 'GET', 'POST']);
  assert.match((await answered.allHeaders()).cookie, /__Host-CF_Session/, 'the cookie came along from another site');
  await context.close();
  await proxy.stop();
}

/** Starts a process in the folder; it is stopped with this one. */
function start(program, argumentsOfIt, log) {
  const child = spawn(path.resolve(program), argumentsOfIt, { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (bytes) => {
      said += bytes;
      if (log) writeFileSync(path.join(folder, log), said);
    });
  }
  const ended = new Promise((resolve) => child.on('exit', resolve));
  const stop = async () => {
    child.kill('SIGINT');
    await ended;
  };
  running.push({ stop });
  return { stop };
}

async function until(look, log) {
  for (let tries = 0; tries < 300; tries += 1) {
    const seen = await look();
    if (seen) return seen;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`it does not start: ${read(log)}`);
}

function read(name) {
  const file = path.join(folder, name);
  return existsSync(file) ? readFileSync(file, 'utf8') : '';
}

/** Node does not resolve `*.localhost` names; browsers do. */
function fetchFrom(port, host, target) {
  return new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port, path: target, headers: { host: `${host}:${port}` } }, async (response) => {
      resolve((await response.setEncoding('utf8').toArray()).join(''));
    }).on('error', reject);
  });
}
