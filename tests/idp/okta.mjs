// An OpenID provider shaped like an Okta organisation, on the certified `oidc-provider`.
//
//   node okta.mjs [--port 0] [--redirect URI]… [--client-id ID] [--client-secret SECRET] [--client-key JWK] [--server default]
//   node okta.mjs --organisations
//   node okta.mjs --serve PID
//
// Prints one line, `ready <issuer>`, and ends when its standard input closes, so that a test that dies leaves no process.
// With `--organisations`, each line of standard input is a JSON array of arguments as above. It starts an organisation of
// its own, for which a `ready` line is printed. With `--serve`, the process prints an address and ends with the process
// PID. Each connection to the address is such an input and output; the end of a connection stops its organisations.
// Shape: the paths `/oauth2/v1/*`, thin ID tokens with groups at userinfo only, PKCE required, `iss` on the response
// (RFC 9207), no consent, and Okta's behaviour beyond one hundred groups.
//
// Tests control an organisation with `POST /_ctl` and a JSON object. Every key is optional; the answer is the whole state:
//   thin         false puts profile and groups into the ID token too
//   overLimit    beyond 100 groups: error-token | error-authorize | truncate | omit | all
//   skew         seconds by which this provider's clock is ahead (negative: behind)
//   rotate       true: a new signing key, the old one still published; "drop": the old ones gone
//   assign       {login, groups}: new groups for a user
//   disable, enable   a login
//   api          {faults, pageSize, limit, resetWindow}: the groups API
//   forget       true: set the counters to zero
//   close        true: stop this organisation
// The answer also holds `counts` (requests per path) and `apiCalls`.

import http from 'node:http';
import { AsyncLocalStorage } from 'node:async_hooks';
import { createPrivateKey, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { Provider, errors, interactionPolicy } from 'oidc-provider';
import * as jose from 'jose';
import { byId, newPeople, password } from './people.mjs';
import { GroupsApi } from './groups-api.mjs';

const parse = (args) => parseArgs({ args, options: OPTIONS }).values;

const OPTIONS = {
  port: { type: 'string', default: '0' },
  redirect: { type: 'string', multiple: true, default: ['http://access.localhost/cdn-cgi/access/callback'] },
  'client-id': { type: 'string', default: '0oaexample' },
  'client-secret': { type: 'string', default: 'a-client-secret-of-the-tests-only' },
  'client-key': { type: 'string', default: '' },
  server: { type: 'string', default: '' },
  organisations: { type: 'boolean', default: false },
  serve: { type: 'string', default: '' },
};

const CLAIM_LIMIT = 100;
const TOO_MANY = 'The groups claim matched too many groups and must be configured to match fewer groups.';
const SCOPES = ['openid', 'profile', 'email', 'groups', 'offline_access', 'address', 'phone'];

/** The settings of the organisation that handles the current request. */
const clock = new AsyncLocalStorage();
const systemClock = Date.now;
Date.now = () => systemClock() + (clock.getStore()?.skew ?? 0) * 1000;

/** The first signing key of every organisation: making one takes longer than most tests. */
const FIRST_KEY = createPrivateKey(readFileSync(new URL('../keys/service.key', import.meta.url))).export({ format: 'jwk' });

const named = (key) => ({ ...key, kid: randomBytes(32).toString('base64url'), alg: 'RS256', use: 'sig' });

async function newKey() {
  const { privateKey } = await jose.generateKeyPair('RS256', { extractable: true });
  return jose.exportJWK(privateKey);
}

/** Starts an organisation, passes the `ready` line to `print`, and returns a function that stops it. */
async function organisation(options, print = console.log) {
  const people = newPeople();
  const settings = { thin: true, overLimit: 'error-token', skew: 0 };
  const disabled = new Set();
  let counts = {};

  const server = http.createServer((request, response) => {
    clock.run(settings, () => handle(request, response)).catch((error) => {
      console.error(error);
      response.statusCode = 500;
      response.end('internal error');
    });
  });
  await new Promise((resolve) => server.listen(+options.port, '127.0.0.1', resolve));

  const org = `http://127.0.0.1:${server.address().port}`;
  const base = options.server ? `/oauth2/${options.server}` : '';
  const issuer = `${org}${base}`;
  const v1 = options.server ? `${base}/v1` : '/oauth2/v1';
  const groupsApi = new GroupsApi(org, people, disabled);
  let keys = [named(FIRST_KEY)];
  let provider = build();
  print(`ready ${issuer}`);
  const stop = () => server.close().closeAllConnections();
  return stop;

  /** A client with a key has no secret. */
  function credentials() {
    const key = options['client-key'];
    if (!key) return { client_secret: options['client-secret'], token_endpoint_auth_method: 'client_secret_basic' };
    return { jwks: { keys: [JSON.parse(key)] }, token_endpoint_auth_method: 'private_key_jwt' };
  }

  function build() {
    const policy = interactionPolicy.base();
    policy.remove('consent'); // an Okta application is assigned by an administrator; nobody is asked

    const built = new Provider(issuer, {
      enabledJWA: { clientAuthSigningAlgValues: ['RS256', 'ES256'] },
      clients: [
        {
          client_id: options['client-id'],
          ...credentials(),
          redirect_uris: options.redirect,
          post_logout_redirect_uris: options.redirect.map((uri) => new URL('logged-out', uri).href),
          response_types: ['code'],
          grant_types: ['authorization_code', 'refresh_token'],
          scope: SCOPES.join(' '),
        },
      ],
      jwks: { keys },
      routes: {
        authorization: `${v1}/authorize`,
        token: `${v1}/token`,
        userinfo: `${v1}/userinfo`,
        jwks: `${v1}/keys`,
        end_session: `${v1}/logout`,
        revocation: `${v1}/revoke`,
        introspection: `${v1}/introspect`,
        pushed_authorization_request: `${v1}/par`,
      },
      scopes: SCOPES,
      claims: {
        openid: ['sub'],
        profile: ['name', 'given_name', 'family_name', 'preferred_username', 'locale', 'zoneinfo', 'updated_at'],
        email: ['email', 'email_verified'],
        groups: ['groups'],
        ...Object.fromEntries(['acr', 'amr', 'auth_time', 'iss', 'sid', 'ver', 'idp', 'jti'].map((name) => [name, null])),
      },
      conformIdTokenClaims: false, // thin or fat is decided in `claimsOf`
      pkce: { required: () => true },
      responseTypes: ['code'],
      features: {
        devInteractions: { enabled: false },
        revocation: { enabled: true },
        introspection: { enabled: true },
        pushedAuthorizationRequests: { enabled: true, requirePushedAuthorizationRequests: false },
        rpInitiatedLogout: { enabled: true, logoutSource: signOutAtOnce },
      },
      ttl: { IdToken: 3600, AccessToken: 3600, Session: 7200, Interaction: 3600, Grant: 86400, AuthorizationCode: 60 },
      interactions: { policy, url: (_, interaction) => `/signin/${interaction.uid}` },
      async loadExistingGrant({ oidc }) {
        const grant = new oidc.provider.Grant({ clientId: oidc.client.clientId, accountId: oidc.session.accountId });
        grant.addOIDCScope(SCOPES.join(' '));
        await grant.save();
        return grant;
      },
      async findAccount(_, sub) {
        const person = byId(people, sub);
        if (!person || disabled.has(person.login)) return undefined;
        return { accountId: sub, claims: async (use, scope) => claimsOf(person, use, scope.split(' ')) };
      },
      cookies: { keys: [randomBytes(16).toString('hex')], names: { session: 'sid', interaction: 'oktaStateToken', resume: 'oktaResume' } },
      renderError(ctx, { error, error_description: description }) {
        ctx.type = 'html';
        ctx.body = page('Error', `<h1>${escape(error)}</h1><p>${escape(description ?? '')}</p>`);
      },
    });
    for (const event of ['server_error', 'authorization.error', 'grant.error', 'userinfo.error']) {
      built.on(event, (_, error) => console.error(event, error.error ?? error, error.error_description ?? ''));
    }
    return built;
  }

  function claimsOf(person, use, scopes) {
    const claims = {
      sub: person.id,
      ver: 1,
      idp: '00oexampleorg0000d7',
      amr: ['pwd'],
      email: person.email ?? person.login,
      name: person.name,
      preferred_username: person.login,
    };
    if (settings.thin && use === 'id_token') return claims;
    const [given, ...family] = person.name.split(' ');
    Object.assign(claims, {
      email_verified: person.emailVerified ?? true,
      given_name: given,
      family_name: family.join(' '),
      locale: 'en-US',
      zoneinfo: 'Europe/Berlin',
      updated_at: 1_700_000_000,
    });
    const groups = scopes.includes('groups') ? claimedGroups(person.groups) : [];
    if (groups.length > 0) claims.groups = groups; // an empty groups claim is left out
    return claims;
  }

  function claimedGroups(groups) {
    if (groups.length <= CLAIM_LIMIT) return groups;
    switch (settings.overLimit) {
      case 'truncate':
        return groups.slice(0, CLAIM_LIMIT);
      case 'omit':
        return [];
      case 'all':
        return groups;
      default:
        throw new errors.InvalidRequest(TOO_MANY);
    }
  }

  async function handle(request, response) {
    const url = new URL(request.url, org);
    if (url.pathname === '/_ctl' && request.method === 'POST') return control(request, response);
    counts[url.pathname] = (counts[url.pathname] ?? 0) + 1;
    if (url.pathname.startsWith('/api/v1/')) return groupsApi.handle(request, response, url);
    if (url.pathname.startsWith('/signin/')) return signIn(request, response);
    if (base && url.pathname.startsWith(`${base}/.well-known/`)) request.url = request.url.slice(base.length);
    return provider.callback()(request, response);
  }

  async function signIn(request, response) {
    const { uid, params } = await provider.interactionDetails(request, response);
    response.setHeader('content-type', 'text/html; charset=utf-8');
    if (request.method === 'GET') return void response.end(signInForm(uid, params.login_hint ?? ''));

    const form = new URLSearchParams(await text(request));
    const login = form.get('identifier');
    const person = people[login];
    if (!person || form.get('passcode') !== password) {
      response.statusCode = 401;
      return void response.end(signInForm(uid, login ?? '', 'Unable to sign in'));
    }
    if (disabled.has(login)) {
      const description = 'User is not assigned to the client application.';
      return finish(request, response, { error: 'access_denied', error_description: description });
    }
    const asked = params.scope.split(' ').includes('groups');
    if (asked && person.groups.length > CLAIM_LIMIT && settings.overLimit === 'error-authorize') {
      return finish(request, response, { error: 'invalid_scope', error_description: TOO_MANY });
    }
    return finish(request, response, { login: { accountId: person.id, amr: ['pwd'], remember: true } });
  }

  function finish(request, response, result) {
    return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
  }

  async function control(request, response) {
    const wish = JSON.parse((await text(request)) || '{}');
    for (const key of Object.keys(settings)) if (key in wish) settings[key] = wish[key];
    if (wish.assign) people[wish.assign.login].groups = wish.assign.groups;
    if (wish.disable) disabled.add(wish.disable);
    if (wish.enable) disabled.delete(wish.enable);
    if (wish.api) groupsApi.configure(wish.api);
    if (wish.rotate) {
      keys = [named(await newKey()), ...(wish.rotate === 'drop' ? [] : keys)];
      provider = build();
    }
    const answer = { ...settings, counts, apiCalls: groupsApi.calls, kids: keys.map(({ kid }) => kid) };
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(answer));
    if (wish.forget) {
      counts = {};
      groupsApi.calls = [];
    }
    if (wish.close) stop();
  }
}

const text = async (request) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
};

const escape = (string) => string.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

const page = (title, body) =>
  `<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>${title}</title></head><body>${body}</body></html>`;

const signInForm = (uid, login, complaint = '') =>
  page(
    'Sign In',
    `<h1>Sign In</h1><p role="alert">${complaint}</p>
<form id="signin" method="post" action="/signin/${uid}">
<label>Username <input name="identifier" autocomplete="username" value="${escape(login)}"></label>
<label>Password <input name="passcode" type="password"></label>
<input type="submit" value="Sign in">
</form>`,
  );

function signOutAtOnce(ctx, form) {
  const consent = '<input type="hidden" name="logout" value="yes">';
  ctx.body = page('Sign out', `${form.replace('</form>', `${consent}</form>`)}<script>document.forms[0].submit()</script>`);
}

/** Starts an organisation for each line of `input`, until it ends. */
async function organisations(input, print) {
  const running = [];
  for await (const line of createInterface({ input })) running.push(await organisation(parse(JSON.parse(line)), print));
  for (const stop of running) stop();
}

/** Serves connections until the process `pid` has ended. */
function serve(pid) {
  const server = net.createServer((socket) => {
    socket.on('error', () => socket.destroy());
    organisations(socket, (line) => socket.write(`${line}\n`)).catch((error) => socket.destroy(error));
  });
  server.listen(0, '127.0.0.1', () => console.log(`127.0.0.1:${server.address().port}`));
  setInterval(() => {
    try {
      process.kill(pid, 0);
    } catch {
      process.exit(0);
    }
  }, 1000);
}

const options = parse(process.argv.slice(2));
if (options.serve) {
  serve(+options.serve);
} else if (options.organisations) {
  await organisations(process.stdin, console.log);
  process.exit(0);
} else {
  process.stdin.on('end', () => process.exit(0)).on('error', () => process.exit(0)).resume();
  await organisation(options);
}
